"""An asynchronous collection can be cancelled while it opens, and does not block the event loop while it indexes."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tuwen import AsyncClient
from tuwen.testing import AsyncFakeTransport, FakeTransport
from tuwen_search import AsyncCollection, async_collection
from tuwen_search.sources import Found, Source
from tuwen_search.store import MilvusStore


def client() -> AsyncClient:
    return AsyncClient(transport=AsyncFakeTransport(FakeTransport(embedding_dimension=16)))


def test_opening_that_is_cancelled_leaves_no_store_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pymilvus")
    begun, go_on, closed = threading.Event(), threading.Event(), []
    opened, close = async_collection.open_stored, MilvusStore.close

    def slowly(*arguments: object) -> object:
        begun.set()
        go_on.wait()
        return opened(*arguments)  # type: ignore[arg-type]

    def noted(store: MilvusStore) -> None:
        closed.append(store)
        close(store)

    monkeypatch.setattr(async_collection, "open_stored", slowly)
    monkeypatch.setattr(MilvusStore, "close", noted)

    async def main() -> None:
        async with client() as clip:
            opening = asyncio.create_task(
                AsyncCollection.open("x", clip, store=str(tmp_path / "store.db"), create=True)
            )
            await asyncio.to_thread(begun.wait)
            opening.cancel()
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await opening

    asyncio.run(main())
    assert len(closed) == 1


def test_the_loop_runs_on_while_a_source_is_read(store: MilvusStore) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    turned = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def read() -> bytes:  # ends only if the event loop runs during the wait
            loop.call_soon_threadsafe(turned.set)
            assert turned.wait(30)
            return file.getvalue()

        def pictures() -> Iterator[Found]:
            yield Found("a.png", "1", read)

        async with client() as clip, await AsyncCollection.open("loop", clip, store=store, create=True) as opened:
            assert (await opened.add(Source("s", pictures))).added == 1

    asyncio.run(main())
