"""Errors of the embedded server.

::

    ServeError
    ├── UnsupportedPlatformError not Linux on x86-64 with glibc 2.35, or no libpython; the message says what to install
    ├── InstallationError        the embedded server could not be installed; the message says why
    ├── PortTakenError           another process listens on a port
    ├── SharedMemoryError        /dev/shm is too small for the Python models
    ├── ModelControlError        a running server refuses to load models, or failed to load a model
    └── ServerStartError         tritonserver ended or was not ready in time; the message quotes its log
"""

from __future__ import annotations

from tuwen import TuwenError

__all__ = [
    "InstallationError",
    "ModelControlError",
    "PortTakenError",
    "ServeError",
    "ServerStartError",
    "SharedMemoryError",
    "UnsupportedPlatformError",
]


class ServeError(TuwenError):
    """The embedded server cannot start, or it stopped by itself."""


class UnsupportedPlatformError(ServeError):
    """The embedded server does not run on this machine, or needs something that is not installed."""


class InstallationError(ServeError):
    """The embedded server could not be installed."""


class PortTakenError(ServeError):
    """Another process listens on a port that the server needs."""


class SharedMemoryError(ServeError):
    """/dev/shm is too small for the Python models."""


class ModelControlError(ServeError):
    """A running server refuses to load models, or failed to load a model."""


class ServerStartError(ServeError):
    """tritonserver ended, or was not ready in time."""
