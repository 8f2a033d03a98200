"""Refused items: why an image or a text has no embedding, from the decoder to the user.

The Python models of a repository run this module too: what they refuse goes over the wire as `ItemFailure.status`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ItemError", "ItemFailure"]


@dataclass(frozen=True)
class ItemFailure:
    """One refused item.

    Attributes:
        index: its position in the sequence that was passed in.
        reason: one word for programs, such as ``corrupt`` or ``too_many_pixels``.
        message: one line for people.
    """

    index: int
    reason: str
    message: str

    def __str__(self) -> str:
        return f"item {self.index}: {self.status}"

    @property
    def status(self) -> str:
        """The failure in the output ``status`` of a model; `from_status` reads it."""
        return f"{self.reason}: {self.message}"

    @classmethod
    def from_status(cls, index: int, status: str) -> ItemFailure:
        """Read the output ``status`` of a model for one refused item.

        Args:
            index: the position of the item.
            status: a reason, which has no colon, and a message.
        """
        reason, _, message = status.partition(": ")
        return cls(index, reason, message)


class ItemError(Exception):
    """An image or a text that cannot be embedded; raised where its position is not known.

    Attributes:
        reason: as `ItemFailure.reason`.
        message: as `ItemFailure.message`.
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
