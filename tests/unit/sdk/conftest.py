"""A fixture that runs a test once with each client, on the in-memory fake."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.blocking import Blocking, Make
from tuwen import AsyncClient, Client
from tuwen.testing import AsyncFakeTransport, FakeTransport


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a `Client`, or an `AsyncClient` that is called like one, on a fake transport."""

    def sync(fake: FakeTransport, **options: Any) -> Client:
        return Client(transport=fake, **options)

    def other(fake: FakeTransport, **options: Any) -> Blocking:
        return Blocking(lambda: AsyncClient(transport=AsyncFakeTransport(fake), **options))

    return sync if request.param == "sync" else other  # type: ignore[return-value]
