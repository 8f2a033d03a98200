"""The connection to a Milvus Lite file, a Milvus server or a cluster, and the errors of its calls."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuwen import MissingExtraError
from tuwen_files.disk_space import is_disk_full, os_reason
from tuwen_options import Option
from tuwen_search.errors import CollectionNotFoundError, QueryError, SearchError, StoreError
from tuwen_search.sharing import answers, open_or_borrow, publish, withdraw

if TYPE_CHECKING:
    from pymilvus import MilvusClient

__all__ = ["NOT_FOUND", "STORE", "MilvusConnection", "default_store", "without_secrets"]

NOT_FOUND = 100
"""The error code of Milvus for a collection that does not exist."""
_TIMEOUT = 60.0
_users: Counter[str] = Counter()  # number of open stores in this process, by file
_LOCKED = "Open local milvus failed"

STORE = Option(
    "Store of the collections: the address of a Milvus server, such as http://host:19530, or a .db file (Milvus Lite). "
    "Default: collections.db in the user's folder for data.",
    envvar="TUWEN_STORE",
)
"""The option ``--store``, which every command that opens a collection has."""


def default_store() -> str:
    """Return the value of the variable TUWEN_STORE; if it is not set, a file in the user's folder for data."""
    home = os.environ.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
    return os.environ.get("TUWEN_STORE") or str(Path(home, "tuwen", "collections.db"))


class MilvusConnection:
    """The connection to one Milvus server or file.

    Attributes:
        url: the address of the server, without the password; or the absolute path of the file, with links resolved.
        remote: whether the store is a server.

    Args:
        url: the address of a server or cluster, such as ``http://host:19530``, with ``user:password@`` if the server
            requires it; or a file that ends in ``.db``.
        timeout: the maximum time in seconds for each call.

    Raises:
        StoreError: the server does not respond, or another process has the file open.
        QueryError: the URL is neither an address nor a file that ends in ``.db``.
        MissingExtraError: pymilvus is not installed.
    """

    def __init__(self, url: str | None = None, *, timeout: float = _TIMEOUT) -> None:
        try:
            from pymilvus import MilvusClient, MilvusException  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtraError(f"search needs an extra ({error}): pip install 'tuwen[search]'") from error
        for library in ("pymilvus", "milvus_lite"):  # They print a traceback of every error.
            logging.getLogger(library).setLevel(logging.CRITICAL)
        self._exception = MilvusException
        given = url or default_store()
        self.remote = "://" in given
        self.url = without_secrets(given)
        self._timeout = timeout
        self._closed = False
        if not self.remote:
            # The file can be opened only once, so all names of one file, such as links, must mean one store.
            self.url = str(Path(self.url).expanduser().resolve())
            if not self.url.endswith(".db"):
                raise QueryError(
                    f"store: expected http://host:port of a Milvus server, or a file that ends in .db, got {self.url}"
                )
            Path(self.url).parent.mkdir(parents=True, exist_ok=True)
        self._loaded: set[str] = set()
        self._owner = ""  # the address of the process that has the file open; empty: this process
        self._reopening = threading.RLock()
        with self._calling("reach it"):
            self._milvus: MilvusClient = MilvusClient(given, timeout=timeout) if self.remote else self._open_file()

    def close(self) -> None:
        """Close the connection or the file. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._milvus.close()
        if self.remote or self._owner:
            return
        _users[self.url] -= 1
        if not _users[self.url]:
            withdraw(self.url)
            # pymilvus 3.0 leaves the file open, and locked, until the process ends
            from milvus_lite.server_manager import server_manager_instance  # noqa: PLC0415 - an extra

            server_manager_instance.release_server(self.url)

    def _open_file(self) -> MilvusClient:
        """Open the file, or connect to the process that has it open."""
        from pymilvus import MilvusClient  # noqa: PLC0415 - an extra

        def connect(place: str) -> MilvusClient:
            return MilvusClient(place, timeout=self._timeout)

        def locked(error: Exception) -> bool:
            return _LOCKED in str(getattr(error, "message", error)) and os.path.exists(self.url)

        opened, self._owner = open_or_borrow(self.url, lambda: connect(self.url), connect, locked=locked)
        if not self._owner:
            from milvus_lite.server_manager import server_manager_instance  # noqa: PLC0415 - an extra

            _users[self.url] += 1
            publish(self.url, server_manager_instance.start_and_get_uri(self.url) or "")
        return opened

    def _stay_connected(self) -> None:
        """Open the file in this process if the process that had it open has ended."""
        if not self._owner or answers(self._owner):
            return
        with self._reopening:
            if self._owner and not answers(self._owner):
                self._milvus.close()
                self._milvus = self._open_file()
                for name in self._loaded:
                    self._milvus.load_collection(name, timeout=self._timeout)

    @contextlib.contextmanager
    def _calling(self, what: str) -> Iterator[None]:
        try:
            self._stay_connected()
            yield
        except self._exception as error:
            raise self._error(what, error) from error

    def _error(self, what: str, error: Any) -> SearchError:
        message = " ".join(str(error.message).split())
        if _LOCKED in message:
            return StoreError(
                f"cannot open '{self.url}': another process holds it, or it is not a Milvus Lite file; "
                "for several processes, run a Milvus server and pass its http:// address"
            )
        if error.code == NOT_FOUND:
            return CollectionNotFoundError(f"cannot {what}: {message}")
        if is_disk_full(error):
            return StoreError(f"cannot {what} in {self.url}: {os_reason(error)}")
        return StoreError(f"cannot {what} in {self.url}: {message}")


def without_secrets(url: str) -> str:
    """Return an address without its password, so that it may be shown."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else url
