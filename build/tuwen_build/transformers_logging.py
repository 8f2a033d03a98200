"""Silence for commands that show progress of their own."""

from __future__ import annotations

from transformers.utils import logging

__all__ = ["quiet_transformers"]


def quiet_transformers() -> None:
    """Turn off the progress bars and advice of transformers, for the whole process: a program's choice to make."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
