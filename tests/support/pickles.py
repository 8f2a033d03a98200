"""A pickle that tries to run code when it is loaded."""

from __future__ import annotations

from pathlib import Path

__all__ = ["Bomb"]


class Bomb:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.path,))
