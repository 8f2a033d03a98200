"""Fixtures that several tests of the HTTP edge use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.edge import EdgeInMemory


@pytest.fixture
def edge() -> Iterator[EdgeInMemory]:
    """Yield an edge with default options, in front of a fake embedding server."""
    with EdgeInMemory() as running:
        yield running
