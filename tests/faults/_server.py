"""The command `tuwen serve` with a private disk and a private ``/dev/shm``, which a test can fill up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from tests.support.command import TUWEN

__all__ = ["Served", "may_mount"]

_SHARED_MEMORY_MIB, _DISK_MIB = 192, 8
_BLOCK = bytes(4096)


def may_mount() -> bool:
    """Return whether this user may mount a private ``/dev/shm`` for a process; usually only root may."""
    done = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    return done.returncode == 0


class Served:
    """A `tuwen serve` process that runs until the context manager exits.

    Args:
        repository: the folder of the model repository to serve.
        own_mounts: whether to mount a private ``/dev/shm`` and a private disk, small enough to be filled. Without the
            mounts, the server uses the machine's ``/dev/shm`` and disk, and `full_disk` and `full_shared_memory` fail.
    """

    def __init__(self, repository: Path, *, own_mounts: bool) -> None:
        self._repository, self._own_mounts = repository, own_mounts
        self._stack = contextlib.ExitStack()
        self._ports = {"--grpc-port": "0", "--http-port": "0", "--metrics-port": "0"}

    def __enter__(self) -> Served:
        self._disk = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._errors = self._stack.enter_context(tempfile.TemporaryFile("w+"))
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._stack.close()

    def start(self) -> None:
        """Start the server. After `stop`, the server starts again on its former ports."""
        ports = [part for port in self._ports.items() for part in port]
        options = ["--json", "--restarts", "100", "--cache-mib", "0", "--log-file", str(self._disk / "log")]
        command = [TUWEN, "serve", str(self._repository), *options, *ports]
        if self._own_mounts:
            mounts = (
                f"mount -t tmpfs -o size={_SHARED_MEMORY_MIB}m tmpfs /dev/shm",
                f"mount -t tmpfs -o size={_DISK_MIB}m tmpfs '{self._disk}'",
                'exec "$@"',
            )
            command = ["unshare", "-m", "sh", "-c", " && ".join(mounts), "sh", *command]
        environment = {**os.environ, "TMPDIR": str(self._disk)}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.said()
        started: dict[str, Any] = json.loads(line)
        self.url = started["grpc"]
        for name, url in (("--grpc-port", "grpc"), ("--http-port", "http"), ("--metrics-port", "metrics")):
            self._ports[name] = started[url].removesuffix("/metrics").rpartition(":")[2]

    def stop(self) -> None:
        """Stop the server with SIGTERM, and check that it exits with code 0 within 60 seconds."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            assert self._process.stdout is not None
            self._process.stdout.close()
        assert code == 0, self.said()

    def said(self) -> str:
        """Return the last 2,000 characters of the server's standard error."""
        self._errors.seek(0)
        return self._errors.read()[-2_000:]

    def tritonserver(self) -> psutil.Process:
        """Return the tritonserver process. Wait up to 60 seconds if the process is still starting."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for child in psutil.Process(self._process.pid).children():
                if child.name() == "tritonserver":
                    return child
            time.sleep(0.05)
        raise TimeoutError(f"tritonserver did not start within 60 seconds; the log ends with: {self.said()}")

    def stub(self, model: str) -> psutil.Process:
        """Return the Python process of a model."""
        [found] = [child for child in self.tritonserver().children() if f"{model}_0_0" in child.cmdline()]
        return found

    def freeze(self) -> None:
        """Suspend the server and its models' processes."""
        os.killpg(self.tritonserver().pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the server and its models' processes after `freeze`."""
        os.killpg(self.tritonserver().pid, signal.SIGCONT)

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """Fill the private disk, which holds logs and temporary files, until the context manager exits."""
        with self._filled(self._disk):
            yield

    @contextlib.contextmanager
    def full_shared_memory(self) -> Iterator[None]:
        """Fill the private ``/dev/shm`` to the last byte, until the context manager exits."""
        with self._filled(Path("/dev/shm")):
            yield

    @contextlib.contextmanager
    def _filled(self, folder: Path) -> Iterator[None]:
        assert self._own_mounts, "only a private mount may be filled; pass own_mounts=True"
        path = Path(f"/proc/{self._process.pid}/root{folder}/filler")
        with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(_BLOCK)
        try:
            yield
        finally:
            path.unlink()
