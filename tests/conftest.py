"""Shared fixtures: seeded checkpoints, their repositories, real servers, and cn_clip as the reference."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tuwen import Client
from tuwen_build.repository import build_repository
from tuwen_build.seeded import write_seeded_checkpoint
from tuwen_build.server import EmbeddedServer, ServerOptions

ROOT = Path(__file__).parents[1]
REFERENCE_SCRIPT = ROOT / "tests" / "reference" / "cn_clip_reference.py"
Embeddings = tuple[NDArray[np.float32], NDArray[np.float32]]


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
def run_reference() -> Callable[..., str]:
    """Run ``cn_clip_reference.py`` apart, with cn-clip on its path; returns what it prints."""

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / ".venv-reference")}
        finished = subprocess.run(
            [sys.executable, str(REFERENCE_SCRIPT), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    return run


@pytest.fixture(scope="session")
def reference_embeddings(
    run_reference: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path, list[bytes], list[str]], Embeddings]:
    """Unit vectors of images and texts by cn_clip's own model, preprocessing and tokenizer."""

    def embed(checkpoint: Path, images: list[bytes], texts: list[str]) -> Embeddings:
        folder = tmp_path_factory.mktemp("reference")
        inputs = folder / "inputs.npz"
        np.savez(inputs, images=np.array(images, dtype=object), texts=np.array(texts, dtype=object))
        run_reference("embed", str(checkpoint), str(inputs), str(folder / "out.npz"))
        outputs = np.load(folder / "out.npz")
        return outputs["image_embeddings"], outputs["text_embeddings"]

    return embed
