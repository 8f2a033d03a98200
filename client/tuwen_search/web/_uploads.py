"""Pictures that visitors uploaded. They are kept for a while, so that the address of a search stays valid."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass

__all__ = ["Upload", "Uploads"]


@dataclass(frozen=True)
class Upload:
    """A picture that a visitor uploaded.

    Attributes:
        data: the encoded picture.
        name: the name of the picture's file.
        preview: a small picture as a ``data:`` URL; empty if the picture cannot be decoded here.
    """

    data: bytes
    name: str
    preview: str


class Uploads:
    """The most recently used pictures of all visitors, up to a number of bytes.

    The key of a picture is a hash of its bytes and a secret of this process. So the same picture has the same address,
    but nobody can find out whether another visitor uploaded a certain picture.

    Args:
        most_bytes: the maximum size in bytes of all pictures together. The newest picture is kept even if it is larger.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most, self._held, self._secret = most_bytes, 0, secrets.token_bytes(32)
        self._kept: OrderedDict[str, Upload] = OrderedDict()

    def keep(self, upload: Upload) -> str:
        """Keep a picture, and return its key: 32 hexadecimal digits."""
        key = hmac.new(self._secret, upload.data, hashlib.sha256).hexdigest()[:32]
        if key not in self._kept:
            self._held += len(upload.data)
        self._kept[key] = upload
        self._kept.move_to_end(key)
        while self._held > self._most and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._held -= len(dropped.data)
        return key

    def get(self, key: str) -> Upload | None:
        """Return a picture by its key; None if the key is unknown or the picture was dropped."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]
