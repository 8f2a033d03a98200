"""The asynchronous client: it has the methods of the synchronous client, and does not block its event loop."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from collections.abc import AsyncIterator, Hashable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tuwen import (
    AsyncClient,
    Client,
    InferenceError,
    InvalidArgumentError,
    ItemOutcome,
    ModelCard,
    RetryPolicy,
    ServerUnavailableError,
    _images,
)
from tuwen._transport import InferRequest, InferResponse
from tuwen.testing import AsyncFakeTransport, FakeTransport


def public(client: type) -> dict[str, Any]:
    return {name: value for name, value in vars(client).items() if not name.startswith("_") and callable(value)}


def test_both_clients_have_the_same_methods() -> None:
    assert public(Client).keys() == public(AsyncClient).keys()


@pytest.mark.parametrize("name", ["__init__", *public(Client)])
def test_both_clients_have_the_same_signatures(name: str) -> None:
    """A method has the same parameters and the same result in both clients.

    Annotations are strings here, so a difference between the annotated results is found, too.
    """
    sync, other = (inspect.signature(getattr(client, name)) for client in (Client, AsyncClient))
    if name.startswith("stream_"):
        other = _as_sync(other)
    differences = {"transport", "headers"} if name == "__init__" else set()
    assert [str(value) for key, value in sync.parameters.items() if key not in differences] == [
        str(value) for key, value in other.parameters.items() if key not in differences
    ]
    assert sync.return_annotation == other.return_annotation
    awaited = not name.startswith(("__", "stream_"))
    assert inspect.iscoroutinefunction(getattr(AsyncClient, name)) == awaited


def _as_sync(signature: inspect.Signature) -> inspect.Signature:
    """Return the synchronous form of a stream's signature: the source is an iterable, and the result a generator."""
    parameters = [
        value.replace(annotation=re.sub(r" \| AsyncIterable\[.*\]$", "", value.annotation))
        if isinstance(value.annotation, str)
        else value
        for value in signature.parameters.values()
    ]
    returned = str(signature.return_annotation)
    if found := re.fullmatch(r"AsyncGenerator\[(.*), None\]", returned):
        returned = f"Generator[{found[1]}, None, None]"
    return inspect.Signature(parameters, return_annotation=returned)


class SlowTransport(AsyncFakeTransport):
    """A fake transport that counts requests in flight, and holds its responses until the test sets `may_answer`.

    Attributes:
        may_answer: the event that releases the responses.
        on_the_way: the number of requests in flight.
        most: the largest number of requests in flight so far.
        cancelled: the number of cancelled requests.
    """

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = asyncio.Event()
        self.on_the_way = self.most = self.cancelled = 0

    async def infer(self, request: InferRequest, timeout: float) -> InferResponse:
        self.on_the_way += 1
        self.most = max(self.most, self.on_the_way)
        try:
            await self.may_answer.wait()
            return await super().infer(request, timeout)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.on_the_way -= 1


async def _until(condition: Any) -> None:
    async with asyncio.timeout(10) if hasattr(asyncio, "timeout") else _no_limit():
        while not condition():
            await asyncio.sleep(0.001)


class _no_limit:  # noqa: N801 - asyncio.timeout is new in Python 3.11
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


def test_cancelling_a_call_cancels_its_requests() -> None:
    async def scenario() -> None:
        transport = SlowTransport()
        clip = AsyncClient(transport=transport)
        call = asyncio.create_task(clip.embed_texts([str(number) for number in range(1000)]))
        await _until(lambda: transport.on_the_way == 4)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert transport.on_the_way == 0
        assert transport.cancelled == transport.most == 4

    asyncio.run(scenario())


def test_an_item_that_cannot_be_sent_ends_a_call_at_once_and_cancels_its_requests() -> None:
    async def scenario() -> None:
        transport = SlowTransport()
        clip = AsyncClient(transport=transport)
        texts: list[Any] = [str(number) for number in range(1000)]
        texts[3 * 32] = 7  # in the last of the four requests that a call sends before a response arrives
        with pytest.raises(InvalidArgumentError, match="text 96: expected a text as str"):
            await asyncio.wait_for(clip.embed_texts(texts), 10)
        assert transport.on_the_way == 0

    asyncio.run(scenario(), debug=True)


def test_an_error_cancels_the_other_requests_of_the_call() -> None:
    async def scenario() -> None:
        transport = AsyncFakeTransport(FakeTransport(fail_with=InferenceError("broken")))
        async with AsyncClient(transport=transport) as clip:
            with pytest.raises(InferenceError, match="broken"):
                await clip.embed_texts([str(number) for number in range(1000)])

    asyncio.run(scenario(), debug=True)


def test_the_event_loop_runs_while_images_are_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    encoding, may_end = threading.Event(), threading.Event()
    encode = _images._from_pixels

    def waits(image: Image.Image, preprocessor: Any) -> bytes:
        encoding.set()
        assert may_end.wait(30), "the event loop stood still while an image was encoded"
        return encode(image, preprocessor)

    monkeypatch.setattr("tuwen._images._from_pixels", waits)

    async def scenario() -> None:
        async with AsyncClient(transport=AsyncFakeTransport()) as clip:
            call = asyncio.create_task(clip.embed_images([Image.new("RGB", (4, 4))]))
            await _until(encoding.is_set)
            assert not call.done()
            may_end.set()
            assert (await call).shape == (1, 512)

    asyncio.run(scenario())


def test_calls_of_one_client_run_at_the_same_time() -> None:
    async def scenario() -> None:
        transport = SlowTransport()
        clip = AsyncClient(transport=transport)
        calls = [asyncio.create_task(clip.embed_texts([str(number)])) for number in range(20)]
        await _until(lambda: transport.on_the_way == 20)
        transport.may_answer.set()
        vectors = np.concatenate(await asyncio.gather(*calls))
        np.testing.assert_array_equal(vectors, await clip.embed_texts([str(number) for number in range(20)]))

    asyncio.run(scenario())


def test_a_missing_server_raises_server_unavailable_error() -> None:
    async def scenario() -> None:
        async with AsyncClient("127.0.0.1:1") as clip:
            assert not await clip.is_ready()
            with pytest.raises(ServerUnavailableError):
                await clip.embed_texts(["猫"])

    asyncio.run(scenario())


def test_an_address_is_checked_at_once() -> None:
    with pytest.raises(InvalidArgumentError):
        AsyncClient("http://localhost:8000")


def test_a_client_may_be_made_outside_of_its_loop() -> None:
    clip = AsyncClient(transport=AsyncFakeTransport())
    assert isinstance(asyncio.run(clip.model_card()), ModelCard)
    assert repr(clip) == "AsyncClient('localhost:8001', timeout=30)"


async def _collect(stream: AsyncIterator[ItemOutcome], keys: list[object]) -> None:
    async for item in stream:
        keys.append(item.key)


class TestStreams:
    """Streams of the asynchronous client: the behaviour that test_streams.py requires, and the rules of asyncio."""

    def test_both_kinds_of_source_yield_outcomes_in_order(self) -> None:
        async def source() -> AsyncIterator[str | tuple[Hashable, str]]:
            for number in range(500):
                await asyncio.sleep(0)
                yield (number, str(number)) if number % 2 else str(number)

        async def scenario() -> None:
            async with AsyncClient(transport=AsyncFakeTransport()) as clip:
                expected = await clip.embed_texts([str(number) for number in range(500)])
                for stream in (clip.stream_texts(source()), clip.stream_texts(str(n) for n in range(500))):
                    items = [item async for item in stream]
                    assert [item.index for item in items] == list(range(500))
                    assert [str(item.key) for item in items] == [str(number) for number in range(500)]
                    vectors = np.stack([item.embedding for item in items if item.embedding is not None])
                    np.testing.assert_array_equal(vectors, expected)

        asyncio.run(scenario(), debug=True)

    def test_refused_items_are_yielded_and_skipped_items_are_left_out(self) -> None:
        async def scenario() -> None:
            async with AsyncClient(transport=AsyncFakeTransport()) as clip:
                image = Image.new("RGB", (4, 4))
                stream = clip.stream_images([image, b"", ("a", image), ("b", image)], skip={"a"})
                items = [item async for item in stream]
            assert [(item.key, item.ok) for item in items] == [(0, True), (1, False), ("b", True)]

        asyncio.run(scenario())

    def test_the_window_limits_requests_in_flight_and_closing_cancels_them(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Responses take no time, so the stream sends requests of the largest size, as many as the window allows.
        monkeypatch.setattr("tuwen.clock.now", lambda: 0.0)

        async def scenario() -> None:
            transport = SlowTransport()
            clip = AsyncClient(transport=transport)
            stream = clip.stream_texts((str(number) for number in range(10**9)), window=96)
            transport.may_answer.set()
            assert [(await anext(stream)).index for _ in range(500)] == list(range(500))
            transport.may_answer.clear()
            following = asyncio.ensure_future(_exhaust(stream))
            await _until(lambda: transport.on_the_way == 3)
            for _ in range(100):  # turns of the event loop in which the client could send more
                await asyncio.sleep(0)
            assert transport.on_the_way == transport.most == 3
            following.cancel()
            with pytest.raises(asyncio.CancelledError):
                await following
            await stream.aclose()  # type: ignore[attr-defined]
            assert transport.on_the_way == 0

        asyncio.run(scenario())

    def test_a_stream_waits_for_a_server_that_restarts(self) -> None:
        async def scenario() -> None:
            fake = FakeTransport(fail_with=ServerUnavailableError("restarting"), fail_times=60)
            quick = RetryPolicy(first_pause=0.001, longest_pause=0.002)
            async with AsyncClient(transport=AsyncFakeTransport(fake), retries=quick) as clip:
                items = [item async for item in clip.stream_texts(str(number) for number in range(500))]
            assert [item.index for item in items] == list(range(500))

        asyncio.run(scenario())

    def test_a_source_may_wait_for_the_results_of_its_earlier_items(self) -> None:
        """A stream yields each outcome even if its source waits for that outcome before it gives the next item.

        An example is a service that sends its next question only after the answer to its previous question.
        """

        async def scenario() -> None:
            answered = asyncio.Semaphore(1)

            async def questions() -> AsyncIterator[str]:
                for number in range(5):
                    await answered.acquire()
                    yield str(number)

            async with AsyncClient(transport=AsyncFakeTransport()) as clip:
                keys = []
                async for item in clip.stream_texts(questions()):
                    keys.append(item.key)
                    answered.release()
            assert keys == ["0", "1", "2", "3", "4"]

        asyncio.run(asyncio.wait_for(scenario(), 10))

    def test_items_before_an_error_of_the_source_are_yielded(self) -> None:
        async def scenario() -> None:
            async def source() -> AsyncIterator[str]:
                for number in range(40):
                    yield str(number)
                raise LookupError("the source broke")

            keys: list[object] = []
            async with AsyncClient(transport=AsyncFakeTransport()) as clip:
                with pytest.raises(LookupError, match="the source broke"):
                    await _collect(clip.stream_texts(source()), keys)
            assert keys == [str(number) for number in range(40)]

        asyncio.run(scenario(), debug=True)

    def test_an_invalid_item_ends_the_stream_after_the_items_before_it(self) -> None:
        async def scenario() -> None:
            keys: list[object] = []
            items: list[Any] = [*map(str, range(40)), 7, *map(str, range(500))]
            async with AsyncClient(transport=AsyncFakeTransport()) as clip:
                with pytest.raises(InvalidArgumentError, match="text 40: expected a text as str"):
                    await _collect(clip.stream_texts(items), keys)
            assert keys == [str(number) for number in range(40)]

        asyncio.run(scenario(), debug=True)

    def test_an_error_of_the_server_leaves_no_task_running(self) -> None:
        async def scenario() -> None:
            transport = AsyncFakeTransport(FakeTransport(fail_with=InferenceError("broken")))
            async with AsyncClient(transport=transport) as clip:
                with pytest.raises(InferenceError, match="broken"):
                    async for _ in clip.stream_texts(str(number) for number in range(10**9)):
                        pass
            assert len(asyncio.all_tasks()) == 1

        asyncio.run(scenario(), debug=True)

    def test_the_source_is_read_by_one_task(self) -> None:
        """A stream reads its source in one task, because context variables and timeouts of the source need one task."""

        async def scenario() -> None:
            tasks = set()

            async def source() -> AsyncIterator[str]:
                for number in range(100):
                    tasks.add(asyncio.current_task())
                    yield str(number)
                    await asyncio.sleep(0)

            async with AsyncClient(transport=AsyncFakeTransport()) as clip:
                assert len([item async for item in clip.stream_texts(source())]) == 100
            assert len(tasks) == 1

        asyncio.run(scenario())


async def _exhaust(stream: AsyncIterator[ItemOutcome]) -> None:
    async for _ in stream:
        pass


def test_other_tasks_run_while_items_are_skipped() -> None:
    class Everything:
        def __contains__(self, _: object) -> bool:
            return True

    turns = 0

    async def main() -> None:
        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async with AsyncClient(transport=AsyncFakeTransport()) as clip:
            await clip.model_card()
            other = asyncio.create_task(others())
            assert not [item async for item in clip.stream_texts(map(str, range(6_400)), skip=Everything())]
            other.cancel()

    asyncio.run(main())
    assert turns >= 100
