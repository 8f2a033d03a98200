"""Fixtures of the edge's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.edge import EdgeInMemory


@pytest.fixture
def edge() -> Iterator[EdgeInMemory]:
    """An edge with default options on a fake server."""
    with EdgeInMemory() as running:
        yield running
