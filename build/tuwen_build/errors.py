"""Errors of a build.

::

    BuildError
    ├── CheckpointError          the checkpoint is missing, incomplete or not of a known family
    ├── ExportError              an encoder cannot be exported so that it runs on every device
    ├── VerificationError        what was exported differs from the reference; says by how much
    └── OutputExistsError        the output folder is there already: --force replaces it

No retry can help: each message names the file or the option to change.
"""

from __future__ import annotations

from tuwen import TuwenError

__all__ = ["BuildError", "CheckpointError", "ExportError", "OutputExistsError", "VerificationError"]


class BuildError(TuwenError):
    """A model repository cannot be built."""


class CheckpointError(BuildError):
    """The checkpoint is missing, incomplete or not of a known family."""


class ExportError(BuildError):
    """An encoder cannot be exported so that it runs on every device."""


class VerificationError(BuildError):
    """What was exported differs from the reference."""


class OutputExistsError(BuildError):
    """The output folder is there already."""
