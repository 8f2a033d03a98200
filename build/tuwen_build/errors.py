"""What can go wrong when a repository is built or served: two branches of the tree in ``tuwen._errors``.

::

    BuildError
    ├── CheckpointError          the checkpoint is missing, incomplete or not of a known family
    ├── ExportError              an encoder cannot be exported so that it runs on every device
    ├── VerificationError        what was exported differs from the reference; says by how much
    └── OutputExistsError        the output folder is there already: --force replaces it
    ServeError
    ├── UnsupportedPlatformError not Linux on x86-64 with glibc 2.35, or no libpython: says what to install
    ├── InstallationError        the embedded server could not be installed; says what is missing
    ├── NotARepositoryError      the folder is not a repository that `tuwen build` made
    ├── DamagedRepositoryError   files of it are missing, or not those that were built; names them
    ├── PortTakenError           another process listens there
    ├── SharedMemoryError        /dev/shm is too small for the Python models
    └── ServerStartError         tritonserver ended or was not ready in time; carries the log's telling lines
"""

from __future__ import annotations

from tuwen_server.errors import ServeError

from tuwen_build.errors import BuildError

__all__ = [
    "BuildError",
    "CheckpointError",
    "DamagedRepositoryError",
    "ExportError",
    "InstallationError",
    "NotARepositoryError",
    "OutputExistsError",
    "PortTakenError",
    "ServeError",
    "ServerStartError",
    "SharedMemoryError",
    "UnsupportedPlatformError",
    "VerificationError",
]


class CheckpointError(BuildError):
    """The checkpoint is missing, incomplete or not of a known family."""


class ExportError(BuildError):
    """An encoder cannot be exported so that it runs on every device."""


class VerificationError(BuildError):
    """What was exported differs from the reference."""


class OutputExistsError(BuildError):
    """The output folder is there already."""


class UnsupportedPlatformError(ServeError):
    """The embedded server does not run on this machine as it is."""


class InstallationError(ServeError):
    """The embedded server could not be installed."""


class NotARepositoryError(ServeError):
    """The folder is not a repository that ``tuwen build`` made."""


class DamagedRepositoryError(ServeError):
    """Files of the repository are missing, or not those that were built."""


class PortTakenError(ServeError):
    """Another process listens on a port that the server needs."""


class SharedMemoryError(ServeError):
    """/dev/shm is too small for the Python models."""


class ServerStartError(ServeError):
    """tritonserver ended, or was not ready in time."""
