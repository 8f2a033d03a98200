"""The lowest score at which a picture fits a text, from a file of `tuwen calibrate`."""

from __future__ import annotations

from pathlib import Path

from tuwen import Threshold
from tuwen_options import Option

__all__ = ["THRESHOLD", "threshold_of"]

THRESHOLD = Option(
    "File of `tuwen calibrate`. Its threshold is the lowest score in searches for a text alone, because the scores of "
    "other searches are on another scale.",
    envvar="TUWEN_THRESHOLD",
    show_default=False,
)
"""The option of every command that searches."""


def threshold_of(path: Path, fingerprint: str) -> Threshold:
    """Return the threshold in a file of `tuwen calibrate`, for searches in a collection.

    Args:
        path: the file.
        fingerprint: the embedding space of the collection.

    Raises:
        InvalidArgumentError: the file is missing, or `tuwen calibrate` did not write it.
        EmbeddingSpaceError: the threshold was calibrated with another model than the collection's.
    """
    threshold = Threshold.load(path)
    threshold.check(fingerprint, "the collection's vectors")
    return threshold
