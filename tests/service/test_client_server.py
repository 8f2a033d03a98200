"""Tests of the SDK on the real server: forks, pixels made by the client, refused images, and profiles."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tuwen import Client, EmbeddingSpaceError, InvalidItemsError
from tuwen_repository.samples import PHOTOGRAPHS, awkward_images, sample
from tuwen_server import EmbeddedServer

# Each case runs in a fork of this interpreter, which has imported gRPC but not used it yet.
FORK = """
import multiprocessing, sys
from PIL import Image
from tuwen import Client

def embed(clip):
    return clip.embed_images([Image.new("RGB", (9, 9), "red")] * 3, timeout=100)[0].tolist()

def child(clip, results):
    results.put(embed(clip or Client(sys.argv[1])))

def case(preprocess, used):
    parent = Client(sys.argv[1], preprocess=preprocess)
    before = embed(parent) if used else None
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    children = [context.Process(target=child, args=(clip, results)) for clip in (parent, None) * 3]
    for process in children:
        process.start()
    found = [results.get(timeout=100) for _ in children]
    for process in children:
        process.join(100)
    found += [embed(parent), before or found[0]]
    assert all(abs(x - y) < 1e-5 for vector in found for x, y in zip(vector, found[0])), found
    print(f"{preprocess}, {'used' if used else 'unused'}: equal", flush=True)

for preprocess in ("server", "client"):
    for used in (True, False):
        process = multiprocessing.get_context("fork").Process(target=case, args=(preprocess, used))
        process.start()
        process.join(300)
"""


def test_a_client_works_on_both_sides_of_a_fork(server: EmbeddedServer) -> None:
    """After a fork, the parent and its children embed with the client from before the fork, and with new clients.

    gunicorn --preload forks like this. The test covers a client that made calls before the fork, and an unused client.
    """
    command = [sys.executable, "-W", "ignore", "-c", FORK, server.grpc_url]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    cases = [f"{preprocess}, {before}: equal" for preprocess in ("server", "client") for before in ("used", "unused")]
    assert finished.stdout.splitlines() == cases, finished.stderr


DURING_CALLS = """
import os, signal, sys
from tuwen import Client, ForkError

def refuses(clip):
    try:
        clip.embed_texts(["猫"])
    except ForkError:
        return True
    return False

def child():
    signal.alarm(60)
    with Client(sys.argv[1]) as new:
        os._exit(0 if refuses(clip) and refuses(new) else 1)

clip = Client(sys.argv[1], timeout=100)
for _ in range(5):
    stream = clip.stream_texts(f"第{number}句" for number in range(500))
    next(stream)
    process = os.fork() or child()
    assert os.waitpid(process, 0)[1] == 0
    assert len(list(stream)) == 499
print("refused", flush=True)
"""


def test_a_fork_during_calls_raises_fork_error_in_the_child_only(server: EmbeddedServer) -> None:
    command = [sys.executable, "-W", "ignore", "-c", DURING_CALLS, server.grpc_url]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert finished.stdout == "refused\n", finished.stderr


@pytest.fixture
def pixels(server: EmbeddedServer) -> Iterator[Client]:
    with Client(server.grpc_url, preprocess="client") as connected:
        yield connected


def test_pixels_made_by_the_client_give_the_servers_vectors(client: Client, pixels: Client) -> None:
    images = list(awkward_images().values())
    np.testing.assert_allclose(pixels.embed_images(images), client.embed_images(images), atol=1e-6)


def test_the_client_refuses_the_images_that_the_server_refuses(client: Client, pixels: Client, tmp_path: Path) -> None:
    photo = sample(PHOTOGRAPHS[0]).read_bytes()
    images = [photo, b"", b"no image", photo[:3000], tmp_path / "missing.jpg", b"GIF89a", photo]
    refusals = []
    for clip in (client, pixels):
        with pytest.raises(InvalidItemsError) as caught:
            clip.embed_images(images)
        refusals.append(caught.value.failures)
    assert refusals[0] == refusals[1]


def test_pixels_of_another_size_raise_embedding_space_error(pixels: Client) -> None:
    card = pixels.model_card()
    pixels._pipeline._card = replace(card, image_size=2 * card.image_size)  # as if another server took over the address
    with pytest.raises(EmbeddingSpaceError, match="another image size"):
        pixels.embed_images([sample(PHOTOGRAPHS[0])])


def test_a_profile_counts_items_and_requests_and_has_every_part(client: Client, pixels: Client) -> None:
    photos = [sample(name) for name in PHOTOGRAPHS]
    for clip in (client, pixels):
        # The server may still count an abandoned request of an earlier test, so one profile may show no network time.
        profiles = [clip.profile(images=photos * 4, texts=["一只猫", "一只狗"]) for _ in range(3)]
        for profile in profiles:
            assert (profile.items, profile.requests) == (18, 3)
            assert profile.encoder > 0
            assert profile.preprocessing > 0
        assert max(profile.network for profile in profiles) > 0
