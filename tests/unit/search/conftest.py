"""Fixtures: a Milvus Lite store, and a collection of pictures that embeds with the SDK's fake transport."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tuwen import Client
from tuwen.testing import FakeTransport
from tuwen_search import Collection
from tuwen_search.store import MilvusStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusStore]:
    """Yield a store in a Milvus Lite file, which all tests of a module share."""
    opened = MilvusStore(str(tmp_path_factory.mktemp("milvus") / "collections.db"))
    yield opened
    opened.close()


@pytest.fixture
def collection(store: MilvusStore) -> Iterator[Collection]:
    """Yield an empty collection of pictures. A fake transport takes the place of the server."""
    if "pictures" in store.names():
        store.drop("pictures")
    with Client(transport=FakeTransport(embedding_dimension=16)) as client:
        yield Collection.open("pictures", client, store=store, create=True)
