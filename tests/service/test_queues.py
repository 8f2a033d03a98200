"""Tests of the real server's queues: priorities, refused requests, expired requests, and full batches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.blocking import Blocking
from tests.support.command import wait_until
from tests.support.gates import OPTIONS, Gate, with_gates
from tests.support.servers import RecordedServer
from tuwen import AsyncClient, Client, DeadlineExceededError, OverloadedError, RetryPolicy
from tuwen._grpc import GrpcTransport
from tuwen._routes import Priority
from tuwen._transport import InferRequest
from tuwen.statistics import ModelStatistics
from tuwen_server.traffic import photographs

ONCE = RetryPolicy(attempts=1)
PHOTOS = photographs(32, size=(64, 64))
PATIENCE = 300.0


@dataclass(frozen=True)
class Gated:
    """A server whose encoders wait until a test opens their gates. The text encoder's queue holds two requests.

    Attributes:
        server: the running server.
        images: the gate of the image encoder.
        texts: the gate of the text encoder.
    """

    server: RecordedServer
    images: Gate
    texts: Gate

    def counted(self, model: str) -> ModelStatistics:
        with Client(self.server.grpc_url) as clip:
            return clip.statistics()[model]


@pytest.fixture(scope="module")
def gated(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    folder = tmp_path_factory.mktemp("gates")
    gates = with_gates(repository, folder, queue_size={"text_encoder": 2})
    with RecordedServer(folder / "repository", OPTIONS) as server:
        yield Gated(server, gates["vision_encoder"], gates["text_encoder"])


def one_request(url: str, photos: list[bytes], priority: Priority) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Send all images in one request, and return the vectors. A call of the SDK would send several requests."""
    request = InferRequest("image_embedding", "image", tuple(photos), ("embedding",), bulk=priority == "bulk")
    with closing(GrpcTransport(url)) as transport:
        return np.asarray(transport.infer(request, PATIENCE).outputs["embedding"])


@pytest.mark.parametrize(
    ("priority", "order"),
    [
        ("bulk", [[2], [1], [32], [32], [32]]),
        ("interactive", [[2], [32], [32], [32], [1]]),
    ],
)
def test_an_interactive_request_goes_before_queued_bulk_requests(
    gated: Gated, priority: Priority, order: list[list[int]]
) -> None:
    """An interactive request runs before the bulk requests that were queued earlier.

    While the encoder is busy, three full batches are queued, and then a request with one picture.
    """
    url, gate = gated.server.grpc_url, gated.images
    with (
        Client(url, timeout=PATIENCE) as interactive,
        ThreadPoolExecutor(5) as pool,
        gate.closed(),
    ):
        calls = [pool.submit(interactive.embed_images, PHOTOS[:2])]
        gate.wait_until_busy()
        for queued in (1, 2, 3):
            calls.append(pool.submit(one_request, url, PHOTOS, priority))
            gate.wait_until_queued(gated.server, queued)
        calls.append(pool.submit(interactive.embed_images, PHOTOS[:1]))
        gate.wait_until_queued(gated.server, 4)
        assert gate.executed() == [[2]]
        gate.open()
        vectors = [call.result() for call in calls]
    assert gate.executed() == order
    assert [len(rows) for rows in vectors] == [2, 32, 32, 32, 1]
    for rows in vectors:
        np.testing.assert_array_equal(rows, vectors[1][: len(rows)])


def test_a_call_goes_before_the_stream_of_the_same_client(gated: Gated) -> None:
    gate = gated.images
    with (
        Client(gated.server.grpc_url, timeout=PATIENCE) as clip,
        ThreadPoolExecutor(3) as pool,
        gate.closed(),
    ):
        busy = pool.submit(clip.embed_images, PHOTOS[:2])
        gate.wait_until_busy()
        stream = pool.submit(lambda: list(clip.stream_images(PHOTOS, window=32)))
        gate.wait_until_queued(gated.server, 1)
        call = pool.submit(clip.embed_images, PHOTOS)
        gate.wait_until_queued(gated.server, 5)
        gate.open()
        assert [len(found.result()) for found in (busy, stream, call)] == [2, 32, 32]
    assert gate.executed()[:3] == [[2], [8, 8, 8, 8], [2]]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_expired_request_is_refused_and_not_computed(gated: Gated, kind: str) -> None:
    gate, url, before = gated.images, gated.server.grpc_url, gated.counted("vision_encoder")
    with (
        Client(url, timeout=PATIENCE) as patient,
        Client(url, retries=ONCE) if kind == "sync" else Blocking(lambda: AsyncClient(url, retries=ONCE)) as hasty,
        ThreadPoolExecutor(1) as pool,
        gate.closed(),
    ):
        busy = pool.submit(patient.embed_images, PHOTOS[:2])
        gate.wait_until_busy()
        # The server refuses a request that waited for half its timeout. If the server is late, the client times out.
        with pytest.raises((OverloadedError, DeadlineExceededError)) as caught:
            hasty.embed_images(PHOTOS[:1], timeout=2.0)
        assert caught.value.items == (0,)
        wait_until(lambda: gated.counted("vision_encoder").failures == before.failures + 1)
        gate.open()
        assert len(busy.result()) == 2
        assert len(patient.embed_images(PHOTOS[:3])) == 3
    assert gate.executed() == [[2], [3]]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_full_queue_refuses_new_requests_and_retries_stay_within_the_budget(gated: Gated, kind: str) -> None:
    """A full queue refuses all further requests, and the client's retries stay within its budget.

    One request is in the encoder, and two fill its queue. After the gate opens, requests are answered again.
    """
    gate, url, callers, calls = gated.texts, gated.server.grpc_url, 16, 5
    errors: list[OverloadedError] = []

    def received() -> int:
        # Every request passes the tokenization. The ensemble's own counter would be wrong: Triton 2.51 counts a request
        # twice if one of the ensemble's steps refuses it (core #483).
        return gated.counted("text_tokenization").requests

    def insist(clip: Client) -> None:
        for _ in range(calls):
            with pytest.raises(OverloadedError) as caught:
                clip.embed_texts(["还有一句"], timeout=PATIENCE)
            errors.append(caught.value)

    before = received()
    with (
        Client(url, timeout=PATIENCE) as early,
        Client(url) if kind == "sync" else Blocking(lambda: AsyncClient(url)) as clip,
        ThreadPoolExecutor(3) as pool,
        gate.closed(),
    ):
        served = [pool.submit(early.embed_texts, ["一"])]
        gate.wait_until_busy()
        for queued, text in enumerate(("二", "三"), start=1):
            served.append(pool.submit(early.embed_texts, [text]))
            gate.wait_until_queued(gated.server, queued)
        workers = [threading.Thread(target=insist, args=(clip,)) for _ in range(callers)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(errors) == callers * calls
        assert all(error.retryable and error.items == (0,) for error in errors)
        # Each call sends one request. All calls share a budget of ten retries, because no success has added to it.
        seen = before + 3 + callers * calls + 10
        wait_until(lambda: received() >= seen)
        assert received() == seen
        assert gate.executed() == [[1]]
        gate.open()
        found = [call.result()[0] for call in served]
        np.testing.assert_allclose(clip.embed_texts(["一", "二", "三"], timeout=PATIENCE), found)
    assert len({tuple(vector) for vector in found}) == 3
    assert sum(map(sum, gate.executed())) == 6
    wait_until(lambda: received() == seen + 1)


def test_single_items_of_many_callers_are_joined_into_full_batches(gated: Gated) -> None:
    """Requests that arrive while an encoder is busy are joined into full batches.

    64 requests with one picture each become two batches of 32.
    """
    image_gate, text_gate = gated.images, gated.texts
    with (
        Client(gated.server.grpc_url, timeout=PATIENCE) as clip,
        ThreadPoolExecutor(65) as pool,
        image_gate.closed(),
    ):
        pool.submit(clip.embed_images, PHOTOS[:2])
        image_gate.wait_until_busy()
        calls = [pool.submit(clip.embed_images, [photo]) for photo in 2 * PHOTOS]
        image_gate.wait_until_queued(gated.server, 64)
        image_gate.open()
        vectors = np.concatenate([call.result() for call in calls])
        assert image_gate.executed() == [[2], [1] * 32, [1] * 32]
        np.testing.assert_array_equal(vectors, np.tile(clip.embed_images(PHOTOS), (2, 1)))
    texts = ["一只猫", "一条狗", "一匹马"]
    with (
        Client(gated.server.grpc_url, timeout=PATIENCE) as clip,
        ThreadPoolExecutor(3) as pool,
        text_gate.closed(),
    ):
        calls = [pool.submit(clip.embed_texts, texts[:1])]
        text_gate.wait_until_busy()
        calls += [pool.submit(clip.embed_texts, [text]) for text in texts[1:]]
        text_gate.wait_until_queued(gated.server, 2)
        text_gate.open()
        vectors = np.concatenate([call.result() for call in calls])
        assert text_gate.executed() == [[1], [1, 1]]
        np.testing.assert_array_equal(vectors, clip.embed_texts(texts))
