"""One Milvus Lite file for several processes: the first process opens the file and serves the others over loopback.

Milvus Lite locks its file, so that only one process, the owner, can open the file. In the owner, Milvus Lite listens on
a port of 127.0.0.1. The owner writes this address beside the file, and other processes connect to the address. When the
owner ends, the next process that needs the store opens the file itself.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

__all__ = ["answers", "open_or_borrow", "publish", "withdraw"]

_PATIENCE = 3.0
_LOOK = 0.1
_CONNECT = 1.0
T = TypeVar("T")


def open_or_borrow(
    path: str, open_file: Callable[[], T], connect: Callable[[str], T], *, locked: Callable[[Exception], bool]
) -> tuple[T, str]:
    """Return a connection to a store, and the address of the owner; empty if this process is the owner.

    Args:
        path: the store's file.
        open_file: a function that opens the file in this process.
        connect: a function that connects to an owner's address.
        locked: a function that returns whether an error of `open_file` means that another process has the file open.

    Raises:
        Exception: the error of `open_file`. Either the file is not locked, or its owner cannot be reached.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return open_file(), ""
        except Exception as error:
            if not locked(error):
                raise
            address = _published(path)
            if address and answers(address):
                return connect(address), address
            if time.monotonic() > deadline:
                raise
        time.sleep(_LOOK)  # the owner has not written its address yet, or is about to end


def publish(path: str, address: str) -> None:
    """Write the address under which other processes of this user reach the store."""
    scratch = Path(f"{_file(path)}.{os.getpid()}")
    with suppress(OSError):  # without a writable folder, the store works for one process
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(address)
        scratch.replace(_file(path))


def withdraw(path: str) -> None:
    """Remove the address, because this process no longer serves the store."""
    with suppress(OSError):
        os.unlink(_file(path))


def answers(address: str) -> bool:
    """Return whether a process accepts connections at an address."""
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=_CONNECT).close()
    except (OSError, ValueError):
        return False
    return True


def _published(path: str) -> str:
    try:
        return Path(_file(path)).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _file(path: str) -> str:
    return f"{path}.address"
