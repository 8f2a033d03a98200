"""Errors of the embedded server.

::

    ServeError
    ├── UnsupportedPlatformError not Linux on x86-64 with glibc 2.35, or no libpython: says what to install
    ├── InstallationError        the embedded server could not be installed; says what is missing
    ├── PortTakenError           another process listens there
    ├── SharedMemoryError        /dev/shm is too small for the Python models
    └── ServerStartError         tritonserver ended or was not ready in time; carries the log's telling lines
"""

from __future__ import annotations

from tuwen import TuwenError

__all__ = [
    "InstallationError",
    "PortTakenError",
    "ServeError",
    "ServerStartError",
    "SharedMemoryError",
    "UnsupportedPlatformError",
]


class ServeError(TuwenError):
    """The embedded server cannot start or stopped by itself."""


class UnsupportedPlatformError(ServeError):
    """The embedded server does not run on this machine as it is."""


class InstallationError(ServeError):
    """The embedded server could not be installed."""


class PortTakenError(ServeError):
    """Another process listens on a port that the server needs."""


class SharedMemoryError(ServeError):
    """/dev/shm is too small for the Python models."""


class ServerStartError(ServeError):
    """tritonserver ended, or was not ready in time."""
