"""The installation of the embedded server: NVIDIA's binary, and the numpy of its Python processes.

Both stay out of the environment that runs tuwen, because the server's wheel and its Python backend need numpy 1.26.
The user's cache holds one folder for each version of Python, which all environments of that version share.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tuwen_files.disk_space import check_space, os_reason
from tuwen_server.errors import InstallationError, UnsupportedPlatformError

__all__ = ["PACKAGES", "Installation", "check_platform", "ensure_installed", "install_server"]

PACKAGES: Mapping[str, str] = {"nvidia-pytriton": "0.7.0", "numpy": "1.26.4"}
"""The versions of the packages that `install_server` installs. ``packages.txt`` has their hashes."""

_FOLDER_VARIABLE = "TUWEN_SERVER_FOLDER"
_TRITON = "2.51"
_INSTALLED_BYTES = 300 << 20  # 223 MiB, and the downloaded wheels until they are unpacked
_OLDEST_GLIBC = (2, 35)  # the wheel's tag is manylinux_2_35
_PYTHONS = ((3, 10), (3, 13))  # the oldest that tuwen supports and the newest that the wheel has a stub for
_NEWEST_WITH_NUMPY = (3, 12)  # numpy 1.26.4 has no wheel for a newer Python, so pip compiles it
_PINS = Path(__file__).with_name("packages.txt")
# Settings that would change pip's target folder or the version of numpy.
_PIP_SETTINGS = ("PIP_CONSTRAINT", "PIP_PREFIX", "PIP_ROOT", "PIP_TARGET", "PIP_USER", "UV_CONSTRAINT", "UV_OVERRIDE")


@dataclass(frozen=True)
class Installation:
    """The folder that holds the embedded server, or in which it will be installed.

    Attributes:
        folder: the folder for this version of Python.
    """

    folder: Path

    @classmethod
    def default(cls) -> Installation:
        """Return the installation for this Python, in the folder TUWEN_SERVER_FOLDER or else in the user's cache."""
        chosen = os.environ.get(_FOLDER_VARIABLE)
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        root = Path(chosen).expanduser() if chosen else cache / "tuwen" / "server"
        return cls(root.absolute() / f"{_TRITON}-cp{sys.version_info.major}{sys.version_info.minor}")

    @property
    def tritonserver(self) -> Path:
        """The folder `tritonserver` of the wheel: the binary, the Python backend and its stubs."""
        return self.folder / "wheel" / "pytriton" / "tritonserver"

    @property
    def libraries(self) -> Path:
        """The folder of the shared libraries that the wheel brings."""
        return self.folder / "wheel" / "nvidia_pytriton.libs"

    @property
    def packages(self) -> Path:
        """The folder that holds numpy 1.26.4 alone."""
        return self.folder / "packages"

    @property
    def complete(self) -> bool:
        """Whether the folder holds the binary and numpy."""
        return (self.tritonserver / "bin" / "tritonserver").is_file() and (self.packages / "numpy").is_dir()


def check_platform() -> None:
    """Check that the embedded server runs on this machine and with this Python.

    Raises:
        UnsupportedPlatformError: the server needs another system, processor, C library or Python. The message says
            which.
    """
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise UnsupportedPlatformError(
            f"the embedded server runs on Linux x86_64, this is {system} {machine}; the client works here, and the "
            "repository can be served with NVIDIA's container"
        )
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(map(int, version.split(".")[:2])) < _OLDEST_GLIBC:
        raise UnsupportedPlatformError(
            f"the embedded server needs glibc {'.'.join(map(str, _OLDEST_GLIBC))} or newer (Debian 12, Ubuntu 22.04), "
            f"this system has {library or 'another C library'} {version}; serve with NVIDIA's container instead"
        )
    oldest, newest = _PYTHONS
    if not oldest <= sys.version_info[:2] <= newest:
        raise UnsupportedPlatformError(
            f"the embedded server needs Python 3.{oldest[1]} to 3.{newest[1]}, this is Python "
            f"{sys.version_info.major}.{sys.version_info.minor}; run `tuwen serve` with such a Python, or serve with "
            "NVIDIA's container"
        )


def ensure_installed(wheels: Path | None = None, *, say: Callable[[str], None]) -> Installation:
    """Return the embedded server's installation; install the server first if it is missing.

    Args:
        wheels: a folder with the wheels of nvidia-pytriton and numpy, for an installation without the network; None:
            pip downloads the packages.
        say: a function that is called with one sentence before a download.

    Raises:
        UnsupportedPlatformError: the server does not run on this machine.
        InstallationError: the server could not be installed.
    """
    check_platform()
    installation = Installation.default()
    if not installation.complete:
        install_server(wheels, say=say)
    return installation


def install_server(
    wheels: Path | None = None,
    *,
    say: Callable[[str], None],
    run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run,
) -> Installation:
    """Install the embedded server for this Python. An earlier installation is replaced.

    Args:
        wheels: a folder with the wheels of nvidia-pytriton and numpy, for an installation without the network; None:
            pip downloads the packages.
        say: a function that is called with one sentence before a download.
        run: the function that runs pip. Tests replace it.

    Returns:
        The complete installation.

    Raises:
        UnsupportedPlatformError: the server does not run on this machine.
        InstallationError: pip or a compiler is missing, pip failed, or the folder cannot be written.
        DiskFullError: the disk has too little free space.
    """
    check_platform()
    if wheels is not None and not wheels.is_dir():
        raise InstallationError(f"expected a folder of wheels, but '{wheels}' is not a folder")
    _check_compiler()
    installation = Installation.default()
    origin = f"from '{wheels}'" if wheels else "with pip, 74 MB"
    say(f"installing the embedded server, Triton {_TRITON}, in '{installation.folder}' ({origin})")
    new = installation.folder.with_name(f".{installation.folder.name}-{uuid.uuid4().hex[:8]}")
    try:
        check_space(new, _INSTALLED_BYTES, "the embedded server")
        new.mkdir(parents=True)
        for target, pin in zip(("wheel", "packages"), _pins(), strict=True):
            requirement = new / f"{target}.txt"
            requirement.write_text(pin, encoding="utf-8")
            _install(requirement, new / target, wheels, run)
        _replace(installation.folder, new)
    except OSError as error:
        raise InstallationError(
            f"cannot write '{error.filename or new}': {os_reason(error)}; set {_FOLDER_VARIABLE} to a folder "
            "that you can write"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    if not installation.complete:
        raise InstallationError(f"pip left '{installation.folder}' incomplete: the binary or numpy is missing")
    return installation


def _pins() -> list[str]:
    """Return the requirement of the wheel and the requirement of numpy, each with its hashes."""
    lines = [line for line in _PINS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [f"{pin}\n" for pin in "\n".join(lines).replace("\n    ", " ").replace("\\", "").splitlines()]


def _install(
    requirement: Path, target: Path, wheels: Path | None, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    offline = ["--no-index", "--find-links", str(wheels)] if wheels else []
    command = [*_installer(), "--quiet", "--no-deps", "--require-hashes", "--target", str(target), *offline]
    environment = {name: value for name, value in os.environ.items() if name not in _PIP_SETTINGS}
    done = run(
        [*command, "--requirement", str(requirement)], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        said = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        telling = [line for line in said if line.lower().startswith("error")] or said
        if any("no space left on device" in line.lower() for line in said):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        package = requirement.read_text(encoding="utf-8").split()[0]
        raise InstallationError(
            f"cannot install {package}: {' '.join(telling[-2:]) or f'pip ended with {done.returncode}'}\n"
            "Without a network, fetch nvidia-pytriton and numpy elsewhere (see 'Serve without a network' in the docs) "
            "and run: tuwen server install --wheels FOLDER"
        )


def _installer() -> list[str]:
    """Return the command of pip, or of uv in an environment that uv made without pip."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable]
    raise InstallationError(f"pip is missing in this environment; run: {sys.executable} -m ensurepip")


def _check_compiler() -> None:
    if sys.version_info[:2] <= _NEWEST_WITH_NUMPY:
        return
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    compilers = all(any(map(shutil.which, names)) for names in (("cc", "gcc", "clang"), ("c++", "g++", "clang++")))
    if not (compilers and (Path(sysconfig.get_path("include")) / "Python.h").is_file()):
        raise InstallationError(
            f"numpy {PACKAGES['numpy']}, which the embedded server needs, has no wheel for Python {version} and must "
            f"be compiled; run: sudo apt install build-essential python{version}-dev, or use Python 3.12"
        )


def _replace(folder: Path, new: Path) -> None:
    """Put a new installation in place. If two processes install at once, one installation is kept."""
    old = folder.with_name(f"{new.name}-old")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
