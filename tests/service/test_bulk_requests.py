"""Bulk and interactive requests that share the batches of a real server."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tuwen import AsyncClient, Client, EmbeddedItem
from tuwen_server import EmbeddedServer

pytestmark = pytest.mark.our_backend
_STREAMED, _CALLS, _CALLERS = 600, 20, 4


def test_calls_beside_a_stream_and_the_stream_get_the_vectors_of_their_own_texts(
    server: EmbeddedServer, client: Client
) -> None:
    """A stream and calls at the same time get the right vectors, although they share batches.

    In a shared batch, our backend answers the calls before it computes the stream's texts.
    """
    streamed = [f"第{number}件商品" for number in range(_STREAMED)]
    called = [[f"{caller}号顾客的第{number}个问题" for number in range(_CALLS)] for caller in range(_CALLERS)]

    async def vectors() -> tuple[list[object], list[list[object]]]:
        async with AsyncClient(server.grpc_url, remembered_texts=0) as clip:

            async def stream() -> list[object]:
                found = [outcome async for outcome in clip.stream_texts(streamed)]
                return [outcome.embedding for outcome in found if isinstance(outcome, EmbeddedItem)]

            async def calls(texts: list[str]) -> list[object]:
                return [(await clip.embed_texts([text]))[0] for text in texts]

            first, *others = await asyncio.gather(stream(), *map(calls, called))
            return first, others

    of_stream, of_calls = asyncio.run(vectors())
    np.testing.assert_allclose(of_stream, client.embed_texts(streamed), atol=1e-5)
    for texts, found in zip(called, of_calls, strict=True):
        np.testing.assert_allclose(found, client.embed_texts(texts), atol=1e-5)
