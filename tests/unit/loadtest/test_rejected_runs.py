"""Load tests that cannot run, because of their options, their target, or Locust."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tuwen import InvalidArgumentError
from tuwen_loadtest import _session, _target
from tuwen_loadtest._connection import Connection
from tuwen_loadtest._session import LoadTestError, Plan
from tuwen_loadtest._target import Target
from tuwen_loadtest.options import PayloadOptions
from tuwen_loadtest.scenarios import SCENARIOS
from tuwen_server.errors import ServeError

TARGET = Target("here", Connection("localhost:8001"), [])
PLAN = Plan(
    Connection("localhost:8001"),
    open_loop=True,
    users=1,
    shape="steady",
    seconds=3,
    deadline=1,
    kinds=(),
    payloads=PayloadOptions(),
)


def test_a_restart_of_several_servers_needs_a_repository() -> None:
    message = "expected the folder of a repository, got 'localhost:8001'; the scenario can restart only"
    with pytest.raises(InvalidArgumentError, match=message), _target.served(TARGET.connection, print, count=2):
        pytest.fail("there is nothing to serve")


@pytest.mark.parametrize("url", ["dns:///clip.example.com", "[::1]:8001"])
def test_bad_clients_need_one_unencrypted_address(url: str) -> None:
    trouble = SCENARIOS["bad-clients"].trouble
    assert trouble is not None
    with pytest.raises(InvalidArgumentError, match="scenario bad-clients: expected one host:port without TLS, got"):
        trouble(Target("there", Connection(url), []), 1, 10)


def test_a_server_that_ended_during_the_test_is_an_error() -> None:
    class Ended:
        """A server whose process has ended."""

        grpc_url = "localhost:8001"

        def poll(self) -> int:
            return -6

        def trouble(self) -> str:
            return "tritonserver ended by itself with code -6"

    servers: Any = [Ended()]
    target = Target("repository", Connection("localhost:8001"), servers=servers)
    message = "the server of the load test stopped before the test ended: tritonserver ended by itself with code -6"
    with pytest.raises(ServeError, match=message):
        target.statistics(1.0)


def test_a_locust_that_never_ends_or_sends_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def never_ends(command: list[str], *, timeout: float, **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(Target, "statistics", lambda *_: [{}])
    monkeypatch.setattr(subprocess, "run", never_ends)
    with pytest.raises(LoadTestError, match=r"Locust did not end within \d+ seconds"):
        _session.run(PLAN, TARGET)
    monkeypatch.setattr(_session, "_run_locust", lambda *_: [])
    with pytest.raises(LoadTestError, match="Locust sent no request in 3 s; use a higher rate"):
        _session.run(PLAN, TARGET)
