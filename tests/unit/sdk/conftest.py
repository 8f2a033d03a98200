"""The fixtures of the SDK's tests: both clients on the fake server in memory, and a clock that the test controls."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.blocking import Blocking, Make
from tests.support.clocks import ManualClock
from tuwen import AsyncClient, Client
from tuwen.testing import AsyncFakeTransport, FakeTransport


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """Replace the clock of the SDK's deadlines and pauses by a clock that the test controls, and return that clock."""
    manual = ManualClock()
    for name in ("now", "pause", "async_pause"):
        monkeypatch.setattr(f"tuwen.clock.{name}", getattr(manual, name))
    return manual


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Make:
    """Return a function that makes a client with a fake transport.

    The client is a `Client`, or an `AsyncClient` whose methods the wrapper `Blocking` makes synchronous.
    """

    def sync(fake: FakeTransport, **options: Any) -> Client:
        return Client(transport=fake, **options)

    def other(fake: FakeTransport, **options: Any) -> Blocking:
        return Blocking(lambda: AsyncClient(transport=AsyncFakeTransport(fake), **options))

    return sync if request.param == "sync" else other  # type: ignore[return-value]
