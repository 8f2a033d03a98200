"""Finding the tritonserver that `tuwen server install` installed, and preparing its backends and environment.

Of the wheel `nvidia-pytriton`, only the binary, its libraries and the Python backend are used, never the Python API.
The encoders run under our `pytorch` backend, or under NVIDIA's backend if TUWEN_PYTORCH_BACKEND names its folder.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tuwen_repository.container_limits import core_limit, usable_cores
from tuwen_repository.environment import ALLOCATOR_SETTINGS, OPENMP_SETTINGS, TF32_SETTINGS
from tuwen_server._installation import Installation, check_platform
from tuwen_server._interpreter import make_interpreter, package_folders
from tuwen_server.errors import UnsupportedPlatformError

__all__ = ["PYTORCH_BACKEND", "Runtime", "find_runtime"]

PYTORCH_BACKEND = "TUWEN_PYTORCH_BACKEND"
"""The environment variable with the folder of NVIDIA's C++ PyTorch backend, which replaces ours."""

_OUR_PYTORCH_BACKEND = Path(__file__).parent / "backends" / "pytorch"
_LIBTRITON_PYTORCH = "libtriton_pytorch.so"
_INTERPRETER = "interpreter"  # beside the backends' folders; Triton only reads folders of backends that its models use

_LAUNCHER = """#!/bin/sh
cd {folder} && exec "$PWD/{name}" "$@"
"""


@dataclass(frozen=True)
class Runtime:
    """A tritonserver that can be started.

    Attributes:
        binary: the tritonserver program.
        wheel: the wheel's folder `tritonserver`, with the Python backend and its stubs.
        library_path: the folders for LD_LIBRARY_PATH: the wheel's libraries and the folder of libpython.
        packages: the folder with the numpy that the Python backend works with.
        pytorch: the folder of the `pytorch` backend.
    """

    binary: Path
    wheel: Path
    library_path: tuple[Path, ...]
    packages: Path
    pytorch: Path = _OUR_PYTORCH_BACKEND

    def environment(self, backends: Path) -> dict[str, str]:
        """Return the environment for tritonserver and the Python stubs that it starts.

        A stub embeds an interpreter that ignores PYTHONPATH (pybind11 starts it isolated). It finds its packages by
        looking for ``python3`` on the PATH, so the private interpreter comes first there.

        Args:
            backends: the folder that `assemble_backends` filled.
        """
        paths = [*map(str, self.library_path), os.environ.get("LD_LIBRARY_PATH", "")]
        return {
            **ALLOCATOR_SETTINGS,
            **OPENMP_SETTINGS,
            **TF32_SETTINGS,
            **_thread_settings(),
            **os.environ,
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths)),
            "PATH": os.pathsep.join([str(backends / _INTERPRETER / "bin"), os.environ.get("PATH", os.defpath)]),
        }

    def assemble_backends(self, folder: Path) -> None:
        """Fill a backend directory: the wheel's `python` with this Python's stub, `pytorch`, and the interpreter.

        A stub looks for modules in its working directory first. So the stub starts in a folder without modules.
        Otherwise, a `model.py` in the user's working directory would run instead of ours.

        Raises:
            OSError: the folder cannot be written.
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
        if self.pytorch == _OUR_PYTORCH_BACKEND:
            shutil.copytree(self.pytorch, folder / "pytorch", ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / "pytorch").symlink_to(self.pytorch)  # a link, because the libraries it needs take gigabytes
        make_interpreter(folder / _INTERPRETER, self.packages, package_folders())


def _thread_settings() -> dict[str, str]:
    """Return the environment variable with the number of threads of an encoder, if a control group limits the CPU time.

    Without a limit, no variable is returned, and torch starts a thread for each physical core.
    """
    limit, cores = core_limit(), usable_cores()
    return {} if limit is None or limit > cores else {"OMP_NUM_THREADS": str(cores)}


def find_runtime() -> Runtime:
    """Return the embedded tritonserver for this Python.

    Raises:
        UnsupportedPlatformError: the system, processor, glibc or Python is not supported; libpython is missing; the
            server is not installed; or TUWEN_PYTORCH_BACKEND names a folder without the backend. The message says what
            to do.
    """
    check_platform()
    installation = Installation.default()
    if not installation.complete:
        raise UnsupportedPlatformError(
            f"the embedded server is not installed in '{installation.folder}'; run: tuwen server install"
        )
    wheel = installation.tritonserver
    _stub(wheel)
    libraries = (installation.libraries, _libpython_folder())
    return Runtime(wheel / "bin" / "tritonserver", wheel, libraries, installation.packages, _pytorch_backend())


def _pytorch_backend() -> Path:
    chosen = os.environ.get(PYTORCH_BACKEND)
    if not chosen:
        return _OUR_PYTORCH_BACKEND
    folder = Path(chosen).expanduser().absolute()
    if not (folder / _LIBTRITON_PYTORCH).is_file():
        raise UnsupportedPlatformError(
            f"{PYTORCH_BACKEND} names '{folder}', where {_LIBTRITON_PYTORCH} is missing; name the folder "
            "backends/pytorch of a tritonserver, or unset the variable to serve with tuwen's own backend"
        )
    return folder


def _stub(wheel: Path) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = wheel / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        available = ", ".join(sorted(path.name for path in stub.parents[1].iterdir()))
        raise UnsupportedPlatformError(f"the embedded server has no stub for Python {version}, only for {available}")
    return stub


def _libpython_folder() -> Path:
    """Return the folder of this interpreter's shared library, which the stub needs."""
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
        f"Triton's Python models need {name}, which is missing; on Debian and Ubuntu: "
        f"sudo apt install libpython{version} (or use a Python built with --enable-shared)"
    )
