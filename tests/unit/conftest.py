"""Fixtures for tests that prove both clients on a fake server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.blocking import Blocking
from tuwen import AsyncClient, Client
from tuwen.testing import AsyncFakeTransport, FakeTransport

Make = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes either client around a fake."""

    def sync(fake: FakeTransport, **options: Any) -> Client:
        return Client(transport=fake, **options)

    def other(fake: FakeTransport, **options: Any) -> Blocking:
        return Blocking(lambda: AsyncClient(transport=AsyncFakeTransport(fake), **options))

    return sync if request.param == "sync" else other  # type: ignore[return-value]
