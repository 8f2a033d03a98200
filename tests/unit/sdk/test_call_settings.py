"""The timeouts, headers and event loops of a call: valid settings work, and invalid settings raise clear errors."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
from opentelemetry import propagate

from tests.support.blocking import Blocking
from tests.support.grpc_server import GrpcServer
from tuwen import AsyncClient, Client, EventLoopError, HttpFetcher, InvalidArgumentError, TuwenError
from tuwen.clock import Deadline
from tuwen.failures import ItemError

Make = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Make:
    """Return a function that makes a client with a real gRPC connection.

    The client is a `Client`, or an `AsyncClient` whose methods the wrapper `Blocking` makes synchronous.
    """

    def other(*arguments: Any, **options: Any) -> Blocking:
        return Blocking(lambda: AsyncClient(*arguments, **options))

    return Client if request.param == "sync" else other  # type: ignore[return-value]


class TestTimeouts:
    @pytest.mark.parametrize(
        "timeout",
        [sys.maxsize, 1e300, 10**400, np.int64(2**62), np.float32(30)],
        ids=["maxsize", "float", "int beyond float", "int64", "float32"],
    )
    def test_a_very_long_timeout_is_accepted(self, make: Make, timeout: float) -> None:
        with GrpcServer() as server:
            with make(server.url, timeout=timeout) as clip:
                assert clip.embed_texts(["猫"]).shape == (1, 512)
                assert clip.is_ready(timeout=timeout)
            with make(server.url) as clip:
                assert clip.embed_texts(["猫"], timeout=timeout).shape == (1, 512)
                assert len(list(clip.stream_texts(["猫"], timeout=timeout))) == 1

    def test_a_very_long_timeout_counts_as_a_year(self) -> None:
        assert 364 < Deadline(sys.maxsize).remaining() / 86_400 <= 365

    def test_a_fetcher_accepts_a_very_long_timeout(self) -> None:
        """A fetcher accepts a very long timeout, although a socket raises OverflowError for more than 24 days."""
        fetcher = HttpFetcher(["127.0.0.1:1"], timeout=sys.maxsize)
        with pytest.raises(ItemError, match="cannot fetch: "):
            fetcher.fetch("http://127.0.0.1:1/cat.jpg")

    @pytest.mark.parametrize("timeout", ["30", object(), 1j])
    def test_a_timeout_that_is_not_a_number_is_refused(self, make: Make, timeout: Any) -> None:
        with pytest.raises(InvalidArgumentError, match="timeout: expected a positive number of seconds, got "):
            make("localhost:8001", timeout=timeout)


class TestHeaders:
    def test_header_names_are_sent_in_lower_case(self, make: Make) -> None:
        headers = {"Authorization": "Bearer s3cret", "X-Team": "search"}
        with GrpcServer() as server:
            for given in (headers, lambda: headers):
                with make(server.url, headers=given) as clip:
                    clip.embed_texts(["猫"])
            for call in server.calls:
                assert (call["authorization"], call["x-team"]) == ("Bearer s3cret", "search")

    def test_trace_headers_with_capital_letters_are_sent_in_lower_case(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Trace headers with capital letters, which AWS X-Ray's propagator writes, are sent in lower case."""
        monkeypatch.setattr(propagate, "inject", lambda carrier: carrier.update({"X-Amzn-Trace-Id": "Root=1-2-3"}))
        with GrpcServer() as server, make(server.url, tracing=True) as clip:
            clip.embed_texts(["猫"])
        assert server.calls[0]["x-amzn-trace-id"] == "Root=1-2-3"

    @pytest.mark.parametrize(
        ("headers", "message"),
        [
            ({"a b": "x"}, "invalid header name 'a b'"),
            ({"Data-Bin": "x"}, "invalid header name 'Data-Bin'"),
            ({"token": "s3crét"}, "the value of the header 'token': expected only printable ASCII"),
            ({"A": "x", "a": "s3cret"}, "the header 'a' is given twice"),
            ("token: s3cret", "expected headers as a mapping of names to values, got str"),
        ],
    )
    def test_an_invalid_header_from_a_function_is_named_in_every_call(
        self, make: Make, headers: Any, message: str
    ) -> None:
        with GrpcServer() as server, make(server.url, headers=lambda: headers) as clip:
            for call in (
                lambda: clip.embed_texts(["猫"]),
                lambda: list(clip.stream_texts(["猫"])),
                clip.model_card,
                clip.statistics,
                clip.is_ready,
            ):
                with pytest.raises(InvalidArgumentError, match=message) as caught:
                    call()
                assert "s3c" not in str(caught.value)

    def test_an_error_of_the_header_function_reaches_the_caller(self, make: Make) -> None:
        def headers() -> dict[str, str]:
            raise ValueError("the token file is empty")

        with GrpcServer() as server, make(server.url, headers=headers) as clip:
            for call in (lambda: clip.embed_texts(["猫"]), clip.model_card, clip.is_ready):
                with pytest.raises(ValueError, match="the token file is empty") as caught:
                    call()
                assert not isinstance(caught.value, TuwenError)


class TestEventLoops:
    """An `AsyncClient` belongs to the event loop of its first call, because that loop opens the gRPC channel."""

    def test_a_call_from_a_second_loop_names_the_remedy(self) -> None:
        with GrpcServer() as server:
            clip = AsyncClient(server.url)

            async def stream() -> None:
                async for _ in clip.stream_texts(["猫"]):
                    pass

            asyncio.run(clip.embed_texts(["猫"]))
            for call in (lambda: clip.embed_texts(["狗"]), stream, clip.statistics, clip.is_ready):
                with pytest.raises(EventLoopError, match="make one AsyncClient in each event loop"):
                    asyncio.run(call())
            asyncio.run(clip.close())

    def test_a_client_in_each_loop_works(self) -> None:
        async def embed(url: str) -> tuple[int, ...]:
            async with AsyncClient(url) as clip:
                return (await clip.embed_texts(["猫"])).shape

        with GrpcServer() as server:
            for _ in range(3):
                assert asyncio.run(embed(server.url)) == (1, 512)

    def test_a_client_may_be_made_before_its_loop(self) -> None:
        with GrpcServer() as server:
            clip = AsyncClient(server.url)

            async def use() -> None:
                async with clip:
                    await clip.embed_texts(["猫"])

            asyncio.run(use())
