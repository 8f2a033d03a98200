"""The summary line that `tuwen embed` and `tuwen index` print after a run."""

from __future__ import annotations

__all__ = ["counted"]


def counted(*, added: int, changed: int, unchanged: int, removed: int, failed: int, updated: int = 0) -> str:
    """Return the numbers of one run as text: ``3 added, 1 changed, 20 unchanged, 2 removed, 0 failed``.

    Args:
        updated: the number of pictures whose metadata changed and whose vectors were kept; 0 is left out of the text.
    """
    with_metadata = f", {updated:,} with new metadata" if updated else ""
    return (
        f"{added:,} added, {changed:,} changed{with_metadata}, {unchanged:,} unchanged, {removed:,} removed, "
        f"{failed:,} failed"
    )
