"""The served vectors of a ViT-B/16-size checkpoint equal Chinese-CLIP's own code, for every form of image and text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from numpy.typing import NDArray

from tests.support.checkpoints import run_reference
from tests.support.metrics import counters
from tests.support.servers import RecordedServer
from tuwen import Client
from tuwen_build.repository import build_repository
from tuwen_build.samples import awkward_images, awkward_texts
from tuwen_build.seeded import BASE_PATCH16, write_seeded_checkpoint
from tuwen_build.server import EmbeddedServer, ServerOptions

IMAGES = awkward_images()
TEXTS = {entry.name: entry.text for entry in awkward_texts()}
ALLOWED = 1e-5
Vectors = tuple[NDArray[np.float32], NDArray[np.float32]]


@pytest.fixture(scope="module")
def base_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_seeded_checkpoint(tmp_path_factory.mktemp("base") / "checkpoint", BASE_PATCH16)


@pytest.fixture(scope="module")
def base_server(base_checkpoint: Path) -> Iterator[EmbeddedServer]:
    output = base_checkpoint.parent / "repository"
    build_repository(str(base_checkpoint), output)
    with RecordedServer(output, ServerOptions.on_free_ports()) as running:
        yield running


@pytest.fixture(scope="module")
def expected(base_checkpoint: Path, reference_embeddings: Callable[..., Vectors]) -> Vectors:
    return reference_embeddings("cn_clip_reference.py", base_checkpoint, list(IMAGES.values()), list(TEXTS.values()))


@pytest.fixture(scope="module")
def served(base_server: EmbeddedServer) -> Vectors:
    with Client(base_server.grpc_url, timeout=300) as clip, pytest.warns(UserWarning, match="were cut"):
        return clip.embed_images(list(IMAGES.values())), clip.embed_texts(list(TEXTS.values()))


@pytest.mark.parametrize("name", IMAGES)
def test_image(served: Vectors, expected: Vectors, name: str) -> None:
    index = list(IMAGES).index(name)
    assert np.abs(served[0][index] - expected[0][index]).max() <= ALLOWED


@pytest.mark.parametrize("name", TEXTS)
def test_text(served: Vectors, expected: Vectors, name: str) -> None:
    index = list(TEXTS).index(name)
    assert np.abs(served[1][index] - expected[1][index]).max() <= ALLOWED


def test_the_vectors_tell_the_items_apart(expected: Vectors) -> None:
    """A model that answered everything alike would pass every comparison above."""
    photographs = expected[0][:4]
    texts = expected[1][:8]
    for vectors in (photographs, texts):
        differences = np.abs(vectors[:, None] - vectors[None]).max(axis=-1)
        assert differences[~np.eye(len(vectors), dtype=bool)].min() > 100 * ALLOWED


def test_a_plain_tritonclient_gets_the_same_vectors(base_server: EmbeddedServer, served: Vectors) -> None:
    connection = tritonclient.grpc.InferenceServerClient(base_server.grpc_url)
    for model, name, items, vectors in (
        ("image_embedding", "image", list(IMAGES.values()), served[0]),
        ("text_embedding", "text", [text.encode() for text in TEXTS.values()], served[1]),
    ):
        tensor = tritonclient.grpc.InferInput(name, [5, 1], "BYTES")
        tensor.set_data_from_numpy(np.array(items[:5], dtype=object).reshape(5, 1))
        embedding = connection.infer(model, [tensor], client_timeout=60).as_numpy("embedding")
        assert np.abs(embedding - vectors[:5]).max() <= ALLOWED
    connection.close()


def test_every_character_of_unicode_is_tokenized_alike(repository: Path) -> None:
    report = json.loads(run_reference("cn_clip_reference.py", "characters", str(repository)))
    assert report["compared"] == 0x110000 - 0x800
    assert report["different"] == []


def test_concurrent_single_items_are_batched(base_server: EmbeddedServer) -> None:
    """64 callers with one item each: Triton joins them into far fewer executions of both encoders."""
    photograph = IMAGES["cat.jpg"]
    texts = [f"第{number}只猫" for number in range(64)]  # new ones: Triton would remember others
    with Client(base_server.grpc_url, timeout=300) as clip, ThreadPoolExecutor(64) as pool:
        clip.model_card()
        before = counters(base_server.metrics_url)
        list(pool.map(lambda _: clip.embed_images([photograph]), range(64)))
        list(pool.map(lambda text: clip.embed_texts([text]), texts))
    after = counters(base_server.metrics_url)
    for encoder in ("vision_encoder", "text_encoder"):
        items = after["nv_inference_count", encoder] - before["nv_inference_count", encoder]
        executions = after["nv_inference_exec_count", encoder] - before["nv_inference_exec_count", encoder]
        print(f"{encoder}: {items:.0f} items in {executions:.0f} executions")
        assert items == 64
        assert executions <= items / 3
