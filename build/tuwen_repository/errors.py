"""Errors of a repository that cannot be read.

::

    RepositoryError
    ├── NotARepositoryError      the folder is not a repository that `tuwen build` made
    └── DamagedRepositoryError   files are missing or differ from the built files; the message names them

A retry cannot help: build the repository again, or name another folder.
"""

from __future__ import annotations

from tuwen import TuwenError

__all__ = ["DamagedRepositoryError", "NotARepositoryError", "RepositoryError"]


class RepositoryError(TuwenError):
    """The model repository cannot be read."""


class NotARepositoryError(RepositoryError):
    """The folder is not a repository that ``tuwen build`` made."""


class DamagedRepositoryError(RepositoryError):
    """Files of the repository are missing or differ from the built files."""
