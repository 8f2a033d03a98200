"""Refused items: the reasons why an image or a text has no embedding.

The Python models of a repository use this module, too. They send `ItemFailure.status` for each refused item.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["IMAGE_REASONS", "TEXT_REASONS", "ItemError", "ItemFailure"]

IMAGE_REASONS = (
    "corrupt",
    "empty",
    "too_many_bytes",
    "too_many_frames",
    "too_many_parts",
    "too_many_pixels",
    "too_many_scans",
    "unsupported_format",
)
"""The reasons why a server refuses an image."""
TEXT_REASONS = ("not_utf8", "too_many_bytes")
"""The reasons why a server refuses a text."""


@dataclass(frozen=True)
class ItemFailure:
    """The failure of one refused item.

    Attributes:
        index: the position of the item in the sequence that was passed.
        reason: the reason as one word for programs, such as ``corrupt`` or ``too_many_pixels``.
        message: the reason as one line of text for people.
    """

    index: int
    reason: str
    message: str

    def __str__(self) -> str:
        return f"item {self.index}: {self.status}"

    @property
    def status(self) -> str:
        """The value of a model's output ``status`` for this failure: the reason, a colon and the message."""
        return f"{self.reason}: {self.message}"

    @classmethod
    def from_status(cls, index: int, status: str) -> ItemFailure:
        """Return the failure that a model's output ``status`` describes.

        Args:
            index: the position of the item in the sequence that was passed.
            status: the reason, a colon and the message.
        """
        reason, _, message = status.partition(": ")
        return cls(index, reason, message)


class ItemError(Exception):
    """An image or a text that cannot be embedded, raised by code that does not know the position of the item.

    Attributes:
        reason: the reason as one word for programs, such as ``corrupt`` or ``too_many_pixels``.
        message: the reason as one line of text for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message

    def at(self, index: int) -> ItemFailure:
        """Return the failure of the item at a position."""
        return ItemFailure(index, self.reason, self.message)
