"""A Milvus server in one process, which `tests/environments.sh milvus` installs."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType

from tests.support.command import wait_until
from tests.support.paths import ENVIRONMENTS
from tuwen_search import StoreError
from tuwen_search.store import MilvusStore
from tuwen_server import ServerOptions

__all__ = ["MilvusServer"]

_PROGRAM = ENVIRONMENTS / "milvus" / "bin" / "milvus-server"
_PATIENCE = 120.0


class MilvusServer:
    """A Milvus server that runs as a process of its own; a context manager.

    Args:
        folder: the folder for the data and the logs of the server.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = ServerOptions.on_free_ports().with_ports_resolved().http_port

    @property
    def url(self) -> str:
        """The address of the server, as `--store` takes it."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> MilvusServer:
        assert _PROGRAM.exists(), "run `tests/environments.sh milvus` first"
        command = [str(_PROGRAM), "--data", str(self._folder), "--proxy-port", str(self._port)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            wait_until(self._answers, seconds=_PATIENCE, running=self._process)
        except BaseException as error:
            self.__exit__(None, None, None)
            if isinstance(error, AssertionError):
                raise TimeoutError(
                    f"the Milvus server was not ready within {_PATIENCE:g} s; read its logs in {self._folder / 'logs'}"
                ) from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _answers(self) -> bool:
        try:
            with closing(MilvusStore(self.url, timeout=10)) as store:
                return store.names() == []
        except StoreError:
            return False
