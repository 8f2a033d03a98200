"""Errors of a build.

::

    BuildError
    ├── CheckpointError          the checkpoint is missing, incomplete or not of a known family
    ├── ExportError              the exported encoder would not run on every device
    ├── VerificationError        an exported model differs from the reference; the message says by how much
    └── OutputExistsError        the output folder exists already: --force replaces it

A retry cannot help. Each message names the file or the option to change.
"""

from __future__ import annotations

from tuwen import TuwenError

__all__ = ["BuildError", "CheckpointError", "ExportError", "OutputExistsError", "VerificationError"]


class BuildError(TuwenError):
    """A model repository cannot be built."""


class CheckpointError(BuildError):
    """The checkpoint is missing, incomplete or not of a known family."""


class ExportError(BuildError):
    """The exported encoder would not run on every device."""


class VerificationError(BuildError):
    """An exported model differs from the reference."""


class OutputExistsError(BuildError):
    """The output folder exists already."""
