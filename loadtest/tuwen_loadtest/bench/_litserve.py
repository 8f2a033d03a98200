"""A LitServe server with the same model, which the benchmark compares with the service."""

from __future__ import annotations

import base64
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tuwen_loadtest.bench._loop import PEERS, environment
from tuwen_server import ServerOptions
from tuwen_server.traffic import CALLERS, Ask, Work, saturate

__all__ = ["LitServe", "litserve"]

_SCRIPT = Path(__file__).with_name("_peer_server.py")
_TIMEOUT = 30.0
_START_TIMEOUT = 300.0


class LitServe:
    """A running LitServe server, which the benchmark measures over HTTP."""

    def __init__(self, http: httpx.Client, work: Work) -> None:
        self._http, self._work = http, work

    def throughput(self, kind: str, *, seconds: float, warmup: float) -> float:
        """Return the items per second when many callers send requests at the same time."""
        return saturate(self._ask(kind), concurrency=CALLERS[kind], seconds=seconds, warmup=warmup).rate

    def _ask(self, kind: str) -> Ask:
        if kind == "texts":
            return lambda: self._post("/text", {"text": self._work.next_text()})
        return lambda: self._post("/image", {"image": base64.b64encode(self._work.next_image()).decode("ascii")})

    def _post(self, path: str, content: dict[str, str]) -> None:
        self._http.post(path, json=content).raise_for_status()


@contextmanager
def litserve(checkpoint: Path, work: Work, threads: int) -> Iterator[LitServe]:
    """Start a LitServe server, wait until it is healthy, and end it after the block."""
    port = ServerOptions.on_free_ports().with_ports_resolved().http_port
    url = f"http://127.0.0.1:{port}"
    command = [str(PEERS), str(_SCRIPT), str(checkpoint), str(port)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        command,
        env=environment(threads),
        stdin=subprocess.PIPE,  # the server ends when this pipe is closed, even if the benchmark is killed
        stdout=quiet,
        stderr=quiet,
        start_new_session=True,
    )
    try:
        _wait_until_healthy(url, process)
        with httpx.Client(base_url=url, timeout=_TIMEOUT) as http:
            yield LitServe(http, work)
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            why = f"to see why, run {PEERS} {_SCRIPT}"
            raise SystemExit(f"bench: LitServe ended with exit code {process.returncode} while it started; {why}")
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise SystemExit(
        f"bench: LitServe was not healthy after {_START_TIMEOUT:g} seconds; to see why, run {PEERS} {_SCRIPT}"
    )
