"""NVIDIA's tritonserver, as the PyPI wheel `nvidia-pytriton` carries it: where it is and what it needs to run.

Only the binary, its libraries and the Python backend of the wheel are used, never its Python API.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import site
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tuwen_build.allocation import ALLOCATOR_SETTINGS
from tuwen_build.errors import UnsupportedPlatformError
from tuwen_build.openmp import OPENMP_SETTINGS

__all__ = ["Runtime", "find_runtime"]

_OLDEST_GLIBC = (2, 35)  # the wheel is tagged manylinux_2_35
_PYTORCH_BACKEND = Path(__file__).parent / "backends" / "pytorch"

_LAUNCHER = """#!/bin/sh
cd {folder} && exec "$PWD/{name}" "$@"
"""


@dataclass(frozen=True)
class Runtime:
    """A tritonserver that can be started.

    Attributes:
        binary: the tritonserver program.
        wheel: the wheel's folder `tritonserver`, with the Python backend and its stubs.
        library_path: folders for LD_LIBRARY_PATH: the wheel's libraries and the one with libpython.
    """

    binary: Path
    wheel: Path
    library_path: tuple[Path, ...]

    def environment(self) -> dict[str, str]:
        """The environment for tritonserver and the Python stubs that it starts.

        A stub embeds an interpreter of its own that ignores PYTHONPATH (pybind11 starts it isolated) and finds
        its packages by looking for ``python3`` on the PATH, so ours comes first there.
        """
        paths = [*map(str, self.library_path), os.environ.get("LD_LIBRARY_PATH", "")]
        return {
            **ALLOCATOR_SETTINGS,
            **OPENMP_SETTINGS,
            **os.environ,
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths)),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        }

    def assemble_backends(self, folder: Path) -> None:
        """Lay out a backend directory: the wheel's `python` with this interpreter's stub, and our `pytorch`.

        A stub looks for modules in its working directory first. It is started in a folder without modules, because a
        `model.py` in the folder from which somebody serves a repository would run in the place of ours.
        """
        python = folder / "python"
        shutil.copytree(self.wheel / "backends" / "python", python, ignore=shutil.ignore_patterns("__pycache__"))
        stub = _stub(self.wheel)
        (python / "stub").mkdir()
        shutil.copy(stub, python / "stub" / stub.name)
        launcher = python / stub.name
        launcher.write_text(
            _LAUNCHER.format(folder=shlex.quote(str(python / "stub")), name=stub.name), encoding="utf-8"
        )
        launcher.chmod(0o755)
        shutil.copytree(_PYTORCH_BACKEND, folder / "pytorch", ignore=shutil.ignore_patterns("__pycache__"))


def find_runtime() -> Runtime:
    """The embedded tritonserver for this interpreter.

    Raises:
        UnsupportedPlatformError: wrong system, processor, glibc or Python, no libpython, or the extra is missing;
            the message says what to do.
    """
    _check_platform()
    spec = importlib.util.find_spec("pytriton")  # found, not imported: its Python API is not for us
    if spec is None or spec.origin is None:
        raise UnsupportedPlatformError("the embedded server is not installed; run: pip install 'tuwen[serve]'")
    if spec.origin.startswith(site.getusersitepackages()):
        raise UnsupportedPlatformError(
            "tuwen is installed with pip --user, where Triton's Python models cannot see it; use a virtual environment"
        )
    wheel = Path(spec.origin).parent / "tritonserver"
    libraries = Path(spec.origin).parents[1] / "nvidia_pytriton.libs"
    _stub(wheel)
    return Runtime(wheel / "bin" / "tritonserver", wheel, (libraries, _libpython_folder()))


def _check_platform() -> None:
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


def _stub(wheel: Path) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = wheel / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        available = ", ".join(sorted(path.name for path in stub.parents[1].iterdir()))
        raise UnsupportedPlatformError(f"the embedded server has no stub for Python {version}, only for {available}")
    return stub


def _libpython_folder() -> Path:
    """The folder with this interpreter's shared library, which the stub is linked to."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"libpython{version}.so.1.0"
    candidates = [
        Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib"),
        Path(sys.base_prefix) / "lib",
        Path("/usr/lib/x86_64-linux-gnu"),
    ]
    for folder in candidates:
        if (folder / name).exists():
            return folder
    raise UnsupportedPlatformError(
        f"{name} is missing, which Triton's Python models are run with; on Debian and Ubuntu: "
        f"sudo apt install libpython{version} (or use a Python built with --enable-shared)"
    )
