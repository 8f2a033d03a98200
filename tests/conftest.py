"""Shared fixtures: seeded checkpoints, their repositories, real servers, and cn_clip as the reference."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.checkpoints import run_reference
from tuwen import Client
from tuwen_build.allocation import keep_freed_memory
from tuwen_build.repository import build_repository
from tuwen_build.seeded import write_seeded_checkpoint
from tuwen_build.server import EmbeddedServer, ServerOptions

# A script that is started in the background ignores Ctrl-C, and so would every program that these tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
keep_freed_memory()  # builds of large models are a good part of all tests

Embeddings = tuple[NDArray[np.float32], NDArray[np.float32]]


class ByFixtures(LoadScopeScheduling):
    """Where processes share the tests, a module is for one of them, as is a family: their fixtures are made once."""

    def _split_scope(self, nodeid: str) -> str:
        module, _, test = nodeid.partition("::")
        return module + test[test.index("[") :] if "[" in test and module.endswith("test_families.py") else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFixtures:
    """Instead of what ``--dist`` chooses; its groups by mark do nothing with pytest 9.2 (pytest-xdist 3.8)."""
    return ByFixtures(config, log)


@pytest.fixture(scope="module", autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Nothing that a module's tests started keeps the interpreter from ending."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if not thread.daemon]
    for thread in left:
        thread.join(10)
    assert not [thread for thread in left if thread.is_alive()]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small seeded checkpoint."""
    return write_seeded_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture(scope="session")
def repository(checkpoint: Path) -> Path:
    """The repository of the small checkpoint."""
    output = checkpoint.parent / "repository"
    build_repository(str(checkpoint), output)
    return output


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[EmbeddedServer]:
    """The real tritonserver on the small repository."""
    with EmbeddedServer(repository, ServerOptions.on_free_ports()) as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[Client]:
    with Client(server.grpc_url) as connected:
        yield connected


@pytest.fixture(scope="session")
def reference_embeddings(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Path, list[bytes], list[str]], Embeddings]:
    """Unit vectors of images and texts by an original's own model, preprocessing and tokenizer.

    Takes the script in ``tests/reference``, the checkpoint, and the items.
    """

    def embed(script: str, checkpoint: Path, images: list[bytes], texts: list[str]) -> Embeddings:
        folder = tmp_path_factory.mktemp("reference")
        inputs = folder / "inputs.npz"
        np.savez(inputs, images=np.array(images, dtype=object), texts=np.array(texts, dtype=object))
        run_reference(script, "embed", str(checkpoint), str(inputs), str(folder / "out.npz"))
        outputs = np.load(folder / "out.npz")
        return outputs["image_embeddings"], outputs["text_embeddings"]

    return embed
