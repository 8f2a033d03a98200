"""Turning off the output of transformers in commands that show their own progress."""

from __future__ import annotations

from transformers.utils import logging

__all__ = ["quiet_transformers"]


def quiet_transformers() -> None:
    """Turn off transformers' progress bars and warnings in the whole process. Libraries should not call this."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
