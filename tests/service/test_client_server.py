"""What the SDK and the real server do together."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from tuwen import Client, InvalidItemsError
from tuwen_build.samples import PHOTOGRAPHS, awkward_images, sample
from tuwen_build.server import EmbeddedServer
from tuwen_build.traffic import photographs

FORK = """
import multiprocessing, sys
from PIL import Image
from tuwen import Client

def embed(clip):
    return clip.embed_images([Image.new("RGB", (9, 9), "red")] * 3, timeout=20)[0].tolist()

def child(clip, results):
    results.put(embed(clip or Client(sys.argv[1])))

parent = Client(sys.argv[1], preprocess=sys.argv[2])
before = embed(parent) if sys.argv[3] == "used" else None
context = multiprocessing.get_context("fork")
results = context.Queue()
children = [context.Process(target=child, args=(clip, results)) for clip in (parent, None) * 3]
for process in children:
    process.start()
found = [results.get(timeout=40) for _ in children]
for process in children:
    process.join(10)
found += [embed(parent), before or found[0]]
assert all(abs(x - y) < 1e-5 for vector in found for x, y in zip(vector, found[0])), found
print("equal")
"""


@pytest.mark.parametrize("preprocess", ["server", "client"])
@pytest.mark.parametrize("before", ["used", "unused"])
def test_a_client_works_on_both_sides_of_a_fork(server: EmbeddedServer, preprocess: str, before: str) -> None:
    """As under gunicorn --preload: the parent's client, or a new one in each child."""
    command = [sys.executable, "-W", "ignore", "-c", FORK, server.grpc_url, preprocess, before]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.stdout.strip() == "equal", finished.stderr


def test_a_text_that_comes_again_never_waits_for_the_batcher(client: Client) -> None:
    """Triton 2.51 looks again after half a second where it missed that a model became free."""
    latencies = []
    for _ in range(1_000):
        start = time.perf_counter()
        client.embed_texts(["一只猫又来了"])
        latencies.append(time.perf_counter() - start)
    assert sum(latency > 0.4 for latency in latencies) <= 1, sorted(latencies)[-20:]


@pytest.mark.parametrize(("kind", "count"), [("texts", 2), ("texts", 8), ("texts", 64), ("images", 16), ("images", 32)])
def test_a_call_of_several_items_never_waits_for_the_batcher(client: Client, kind: str, count: int) -> None:
    """Nor does what it sends wait behind itself for a batcher that nobody wakes."""
    [photo] = photographs(1, size=(64, 64))
    latencies = []
    for number in range(10):
        start = time.perf_counter()
        if kind == "texts":
            client.embed_texts([f"第{number}次的第{item}句" for item in range(count)])
        else:
            client.embed_images([photo] * count)
        latencies.append(time.perf_counter() - start)
    assert sum(latency > 0.45 for latency in latencies) <= 1, sorted(latencies)


@pytest.fixture
def pixels(server: EmbeddedServer) -> Iterator[Client]:
    with Client(server.grpc_url, preprocess="client") as connected:
        yield connected


def test_pixels_made_by_the_client_give_the_servers_vectors(client: Client, pixels: Client) -> None:
    images = list(awkward_images().values())
    np.testing.assert_allclose(pixels.embed_images(images), client.embed_images(images), atol=1e-6)


def test_the_client_refuses_what_the_server_would(client: Client, pixels: Client, tmp_path: Path) -> None:
    photo = sample(PHOTOGRAPHS[0]).read_bytes()
    images = [photo, b"", b"no image", photo[:3000], tmp_path / "missing.jpg", b"GIF89a", photo]
    refusals = []
    for clip in (client, pixels):
        with pytest.raises(InvalidItemsError) as caught:
            clip.embed_images(images)
        refusals.append(caught.value.failures)
    assert refusals[0] == refusals[1]


def test_a_profile_tells_the_encoder_from_the_queue(client: Client, pixels: Client) -> None:
    photos = [sample(name) for name in PHOTOGRAPHS]
    for clip in (client, pixels):
        profile = clip.profile(images=photos * 4, texts=["一只猫", "一只狗"])
        assert (profile.items, profile.requests) == (18, 3)
        assert profile.encoder > 0
        assert profile.preprocessing > 0
        assert profile.network > 0


def test_lone_requests_hardly_ever_wait_for_a_wake_up_that_was_missed(client: Client) -> None:
    """With a queue policy, Triton 2.51 now and then looks at its queue only after 500 ms: a few in 1,000, not more."""
    calls, waited = 500, []
    for number in range(calls):
        start = time.monotonic()
        client.embed_texts([f"第{number}个问题"])
        waited.append(time.monotonic() - start)
    stalled = sum(seconds > 0.4 for seconds in waited)
    assert stalled <= calls // 50
    assert statistics.median(waited) < 0.1


class TestResponseCache:
    """Triton's cache knows a text that comes again, and gives nobody an answer that was made for another."""

    @staticmethod
    def hits(client: Client) -> int:
        return client.statistics()["text_encoder"].cache_hits

    def test_a_text_that_comes_again_is_not_computed_again(self, client: Client) -> None:
        first = client.embed_texts(["一只会飞的猫"])
        before = self.hits(client)
        again = client.embed_texts(["一只会飞的猫", "一只会飞的猫"])
        np.testing.assert_array_equal(again, first[[0, 0]])
        assert self.hits(client) == before + 1

    def test_it_is_found_among_others(self, client: Client) -> None:
        texts = ["红色的伞", "蓝色的船", "绿色的门"]
        first = {text: client.embed_texts([text])[0] for text in texts}
        before = self.hits(client)
        found = client.embed_texts([*reversed(texts), "没有见过的"])
        for vector, text in zip(found, reversed(texts), strict=False):
            np.testing.assert_allclose(vector, first[text], atol=1e-6)
        assert self.hits(client) > before

    def test_an_answer_for_one_caller_is_not_given_to_another(self, server: EmbeddedServer, client: Client) -> None:
        """Triton's key leaves out which outputs are wanted, and whether refusals are."""
        with closing(InferenceServerClient(server.grpc_url)) as plain:

            def infer(text: bytes, **options: Any) -> Any:
                tensor = InferInput("text", [1, 1], "BYTES")
                tensor.set_data_from_numpy(np.array([[text]], dtype=object))
                return plain.infer("text_embedding", [tensor], **options)

            infer("只要向量".encode(), outputs=[InferRequestedOutput("embedding")])
            assert client.embed_texts(["只要向量"]).shape == (1, 64)
            status = infer(b"\xff", parameters={"per_item_status": True}).as_numpy("status")
            assert status[0, 0].startswith(b"not_utf8")
            with pytest.raises(InferenceServerException, match="text 0: not_utf8"):
                infer(b"\xff")
