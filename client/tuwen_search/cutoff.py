"""The minimum score at which a picture fits a text, from a file that `tuwen calibrate` wrote."""

from __future__ import annotations

from pathlib import Path

from tuwen import Threshold
from tuwen_options import Option

__all__ = ["THRESHOLD", "threshold_of"]

THRESHOLD = Option(
    "File that `tuwen calibrate` wrote. Its threshold is the minimum score. The threshold applies only to searches for "
    "one text, because the scores of other searches are on another scale.",
    envvar="TUWEN_THRESHOLD",
    show_default=False,
)
"""The option ``--threshold``, which every command that searches has."""


def threshold_of(path: Path, fingerprint: str) -> Threshold:
    """Return the threshold in a file of `tuwen calibrate`, for searches in a collection.

    Args:
        path: the file that `tuwen calibrate` wrote.
        fingerprint: the fingerprint of the collection's embedding space.

    Raises:
        InvalidArgumentError: the file is missing, or `tuwen calibrate` did not write it.
        EmbeddingSpaceError: the threshold was calibrated with another model than the collection's.
    """
    threshold = Threshold.load(path)
    threshold.check(fingerprint, "the collection's vectors")
    return threshold
