"""Fixtures for the contract of collections: a store of each kind, and a function that opens a collection in a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.blocking import Blocking
from tests.support.collections import Open
from tests.support.milvus import MilvusServer
from tuwen import AsyncClient, Client
from tuwen.testing import AsyncFakeTransport, FakeTransport
from tuwen_search import AsyncCollection, Collection
from tuwen_search.store import MilvusStore


@pytest.fixture(scope="session", params=["lite", pytest.param("server", marks=pytest.mark.system)])
def store_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("milvus")
    if request.param == "lite":
        yield str(folder / "collections.db")
        return
    with MilvusServer(folder) as server:
        yield server.url


@pytest.fixture(scope="session")
def store(store_url: str) -> Iterator[MilvusStore]:
    opened = MilvusStore(store_url)
    yield opened
    opened.close()


@pytest.fixture(params=["sync", "async"])
def opened(request: pytest.FixtureRequest, store: MilvusStore) -> Iterator[Open]:
    """Yield a function that opens the new collection ``pictures``. A test runs once with each collection class."""
    if store.remote and request.param == "async":
        pytest.skip("both classes use the store in the same way, and a server takes seconds for each collection")
    if "pictures" in store.names():
        store.drop("pictures")
    with ExitStack() as open_until_the_end:

        def sync(fake: FakeTransport | None = None, **options: Any) -> Collection:
            client = open_until_the_end.enter_context(Client(transport=fake or FakeTransport(embedding_dimension=32)))
            return Collection.open("pictures", client, store=store, **{"create": True, **options})

        def other(fake: FakeTransport | None = None, **options: Any) -> Any:
            client = AsyncClient(transport=AsyncFakeTransport(fake or FakeTransport(embedding_dimension=32)))
            options = {"create": True, **options}
            collection = Blocking(lambda: AsyncCollection.open("pictures", client, store=store, **options))
            return open_until_the_end.enter_context(collection)

        yield sync if request.param == "sync" else other
