"""The private virtual environment of the embedded server's Python processes.

With numpy 2, the Python backend of Triton 2.51 aborts at the first string, while other packages need numpy 2. So the
backend's processes find numpy 1.26.4 before the packages of the environment that runs tuwen.
"""

from __future__ import annotations

import site
import sys
import sysconfig
import venv
from collections.abc import Iterable
from pathlib import Path

__all__ = ["make_interpreter", "package_folders"]

_PATHS = "tuwen-server.pth"


def package_folders() -> list[Path]:
    """Return the folders in which this interpreter finds installed packages, in its order of search."""
    folders = [Path(folder) for folder in site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        folders.append(Path(site.getusersitepackages()))
    return [folder for folder in folders if folder.is_dir()]


def make_interpreter(folder: Path, first: Path, others: Iterable[Path]) -> Path:
    """Create a virtual environment without pip that takes all packages from other folders.

    Args:
        folder: the folder in which the environment is created.
        first: the folder of packages that take precedence over other packages of the same name.
        others: the other folders of packages, whose .pth files are read too.

    Returns:
        The folder with ``python3``, for the front of PATH.

    Raises:
        OSError: the folder cannot be written.
    """
    venv.EnvBuilder(symlinks=True).create(folder)
    schemes = {"base": str(folder), "platbase": str(folder)}
    scheme = "venv" if sys.version_info >= (3, 11) else "posix_prefix"  # Debian installs elsewhere by default
    packages = Path(sysconfig.get_path("purelib", scheme, vars=schemes))
    # A line of code, because editable installs need their .pth files, which Python skips in a folder that is only
    # listed.
    lines = [str(first), *(f"import site; site.addsitedir({str(other)!r})" for other in others)]
    (packages / _PATHS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "bin"
