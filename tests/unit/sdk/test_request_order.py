"""The number, the size, the maximum waiting time and the order of requests in flight.

A request waits behind the requests in flight of other clients. So each client keeps few requests in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.blocking import Blocking
from tuwen import AsyncClient, Client
from tuwen._messages import encode_request
from tuwen._routes import Priority
from tuwen._transport import InferRequest, InferResponse
from tuwen.testing import AsyncFakeTransport, FakeTransport


class Counting(FakeTransport):
    """A fake transport that counts the requests in flight.

    Attributes:
        in_flight: for each request, the number of requests in flight when it was sent, the request itself included.
    """

    def __init__(self) -> None:
        super().__init__()
        self.in_flight: list[int] = []
        self._now = 0

    def begin(self) -> None:
        self._now += 1
        self.in_flight.append(self._now)

    def end(self) -> None:
        self._now -= 1

    def send(self, request: InferRequest, timeout: float) -> Any:
        self.begin()
        return _Pending(super().send(request, timeout).result(), self.end)


class _Pending:
    def __init__(self, response: InferResponse, end: Callable[[], None]) -> None:
        self._response, self._end = response, end

    def result(self) -> InferResponse:
        self._end()
        return self._response

    def seconds(self) -> float:
        return 0.0

    def cancel(self) -> None:
        return


class AsyncCounting(AsyncFakeTransport):
    """A fake transport for an `AsyncClient`, which reports each request to a `Counting`.

    Every response takes ten turns of the event loop.
    """

    def __init__(self, counting: Counting) -> None:
        super().__init__(FakeTransport())
        self.counting = counting

    async def infer(self, request: InferRequest, timeout: float) -> InferResponse:
        self.counting.begin()
        try:
            for _ in range(10):
                await asyncio.sleep(0)
            return await super().infer(request, timeout)
        finally:
            self.counting.end()


@pytest.fixture(params=["sync", "async"])
def counted(request: pytest.FixtureRequest) -> tuple[Any, Counting]:
    """Return a client, and the fake transport that counts the client's requests."""
    counting = Counting()
    if request.param == "sync":
        return Client(transport=counting), counting
    return Blocking(lambda: AsyncClient(transport=AsyncCounting(counting))), counting


@pytest.mark.parametrize("count", [1, 2, 8, 9, 32])
def test_up_to_32_texts_of_a_call_are_one_request(counted: tuple[Any, Counting], count: int) -> None:
    client, counting = counted
    with client as clip:
        assert len(clip.embed_texts([f"第{number}句" for number in range(count)])) == count
    assert counting.in_flight == [1]


def test_a_call_with_many_items_has_four_requests_in_flight_at_first(counted: tuple[Any, Counting]) -> None:
    client, counting = counted
    with client as clip:
        assert len(clip.try_embed_images([b"image"] * 80)) == 80
    assert counting.in_flight[:4] == [1, 2, 3, 4]


def test_a_profile_sends_one_request_after_the_other(counted: tuple[Any, Counting]) -> None:
    client, counting = counted
    with client as clip:
        clip.profile(texts=[f"第{number}句" for number in range(100)])
    assert counting.in_flight == [1] * 4


def test_a_stream_begins_with_small_requests_one_after_the_other() -> None:
    counting = Counting()
    with Client(transport=counting) as clip:
        assert len(list(clip.stream_images([b"image"] * 80, window=32))) == 80
    assert [len(request.items) for request in counting.requests] == [*[2] * 3, *[4] * 3, *[8] * 7, 6]
    assert counting.in_flight == [*[1] * 9, 1, 2, 3, 3, 4]


def test_a_stream_respects_a_window_that_is_smaller_than_a_request() -> None:
    counting = Counting()
    with Client(transport=counting) as clip:
        assert len(list(clip.stream_images([b"image"] * 9, window=3))) == 9
    assert max(len(request.items) for request in counting.requests) <= 3
    assert max(counting.in_flight) <= 3


@pytest.mark.parametrize("timeout", [0.5, 10.0, 300.0])
def test_a_request_may_queue_for_half_of_its_timeout(timeout: float) -> None:
    """A request may wait in the server's queue for half of its timeout.

    The server refuses a request that waited longer, because its response would come too late.
    """
    message = encode_request(InferRequest("text_embedding", "text", (b"cat",), ("embedding",)), timeout)
    assert message.parameters["timeout"].int64_param == timeout / 2 * 1e6


@pytest.mark.parametrize("priority", ["interactive", "bulk"])
def test_streams_have_bulk_priority_and_calls_have_the_clients_priority(priority: Priority) -> None:
    fake = FakeTransport()
    with Client(transport=fake, priority=priority) as clip:
        clip.embed_texts(["一只猫"])
        assert [request.bulk for request in fake.requests] == [priority == "bulk"]
        list(clip.stream_texts(["一只狗"]))
        assert fake.requests[-1].bulk


def test_bulk_requests_have_the_second_of_two_priority_levels_and_say_so_to_the_models() -> None:
    """Triton reads `priority` and hides it from the models, which read `bulk`."""
    request = InferRequest("text_embedding", "text", (b"cat",), ("embedding",), bulk=True)
    parameters = encode_request(request, 1.0).parameters
    assert (parameters["priority"].uint64_param, parameters["bulk"].bool_param) == (2, True)


def test_interactive_requests_have_no_parameter_of_bulk_requests() -> None:
    request = InferRequest("text_embedding", "text", (b"cat",), ("embedding",))
    assert not {"priority", "bulk"} & set(encode_request(request, 1.0).parameters)
