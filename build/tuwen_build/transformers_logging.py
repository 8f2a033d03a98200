"""Turning off the output of transformers in commands that show their own progress."""

from __future__ import annotations

from transformers.utils import logging

__all__ = ["quiet_transformers"]


def quiet_transformers() -> None:
    """Turn off progress bars and warnings of transformers for the whole process. Only programs should call this function."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
