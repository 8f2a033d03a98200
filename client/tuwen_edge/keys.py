"""API keys: random strings, of which the edge keeps only the hashes."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from tuwen import InvalidArgumentError
from tuwen_edge.errors import EdgeError

__all__ = ["KeyFile", "new_key", "parse_keys", "presented_key"]

_PREFIX = "tuwen-"
_LINE = re.compile(r"(?P<name>[\w.-]{1,64})\s+sha256:(?P<hash>[0-9a-f]{64})", re.ASCII)
_HEADERS = ("authorization", "api-key", "x-api-key")


def new_key(name: str) -> tuple[str, str]:
    """Return a new random key, and the line of a key file that allows it.

    Raises:
        InvalidArgumentError: the name does not fit into a key file.
    """
    key = _PREFIX + secrets.token_urlsafe(32)
    line = f"{name} sha256:{_hash(key).hex()}"
    if not _LINE.fullmatch(line):
        raise InvalidArgumentError(f"name: expected 1 to 64 letters, digits, '.', '_' or '-', got {name!r}")
    return key, line


def parse_keys(text: str) -> dict[str, bytes]:
    """Return the contents of a key file: the hash of each key, by the name of the key.

    Raises:
        InvalidArgumentError: a line is not a name and a hash, or a name is repeated. The message does not show the
            line, because it may be a key.
    """
    found: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        matched = _LINE.fullmatch(content)
        if matched is None:
            raise InvalidArgumentError(f"line {number}: expected 'NAME sha256:HASH', as `tuwen edge-key` prints it")
        if matched["name"] in found:
            raise InvalidArgumentError(
                f"line {number}: the name {matched['name']!r} is used twice; rename or remove one of the keys"
            )
        found[matched["name"]] = bytes.fromhex(matched["hash"])
    if not found:
        raise InvalidArgumentError("the file has no key; `tuwen edge-key` makes one")
    return found


def presented_key(headers: Mapping[str, str]) -> str | None:
    """Return the key of a request, from the header ``Authorization: Bearer``, ``api-key`` or ``x-api-key``."""
    for name in _HEADERS:
        value = headers.get(name)
        if value is not None:
            scheme, _, token = value.partition(" ")
            return token.strip() if name == "authorization" and scheme.lower() == "bearer" else value
    return None


class KeyFile:
    """The file with the keys that callers may use. When the file changes, it is read again.

    A random key of 256 bits cannot be guessed from its hash, so SHA-256 needs no salt and no delay.

    Raises:
        InvalidArgumentError: the file cannot be read, or has an invalid line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._changed()
        self._hashes = self._read()

    def name_of(self, key: str | None) -> str:
        """Return the name of a key.

        Raises:
            EdgeError: 401: the key is missing or unknown.
        """
        self._refresh()
        if key is None:
            raise EdgeError(401, "An API key is needed: send 'Authorization: Bearer KEY'.", code="missing_api_key")
        presented, known = _hash(key), None
        for name, allowed in self._hashes.items():  # no early exit: the time must not depend on the key
            if hmac.compare_digest(presented, allowed):
                known = name
        if known is None:
            raise EdgeError(401, "The API key is unknown. Ask the operator for a valid key.", code="invalid_api_key")
        return known

    def _refresh(self) -> None:
        """Read the file if it has changed. If the changed file cannot be read, the earlier keys stay valid."""
        stamp = self._changed()
        if stamp is not None and stamp != self._stamp:
            try:
                self._hashes = self._read()
            except InvalidArgumentError:
                return
            self._stamp = stamp

    def _changed(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> dict[str, bytes]:
        try:
            return parse_keys(self._path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise InvalidArgumentError(f"cannot read the keys in {os.fspath(self._path)!r}: {reason}") from error
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"cannot read the keys in {os.fspath(self._path)!r}: {error}") from error


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
