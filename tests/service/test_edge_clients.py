"""Third-party clients, unchanged, get the same vectors from the running HTTP edge as the SDK from the server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reference.http_clients import TEXTS
from tests.support.command import tuwen_here
from tests.support.edge import edge_process
from tests.support.paths import ENVIRONMENTS, GALLERY, ROOT
from tests.support.servers import SharedServers
from tuwen import Client
from tuwen_files.quantization import quantize

PYTHON = ENVIRONMENTS / "http_clients" / "bin" / "python"
PICTURE = GALLERY / "猫脸.png"


@pytest.fixture(scope="module")
def found(servers: SharedServers, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Call a running edge with every third-party client, and return the results by the client's name."""
    assert PYTHON.exists(), "run `tests/environments.sh http_clients` first"
    keys = tmp_path_factory.mktemp("edge") / "keys"
    key = tuwen_here("edge-key", "test", "--file", str(keys)).stdout.strip()
    url = servers.on(repository).grpc_url
    with edge_process(url, "--model-name", "tiny", "--keys", str(keys)) as edge, edge_process(url) as without_keys:
        program = ROOT / "tests" / "reference" / "http_clients.py"
        finished = subprocess.run(
            [PYTHON, program, edge.address, key, without_keys.address, PICTURE],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert finished.returncode == 0, finished.stderr
    content: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return content


@pytest.mark.parametrize("name", ["openai", "openai_float", "openai_async", "litellm"])
def test_texts_and_a_picture_have_the_vectors_of_the_sdk(found: dict[str, Any], client: Client, name: str) -> None:
    expected = np.concatenate([client.embed_texts(TEXTS), client.embed_images([PICTURE])])
    assert np.array_equal(np.float32(found[name]), expected)


def test_cohere_has_the_vectors_of_the_sdk(found: dict[str, Any], client: Client) -> None:
    texts = client.embed_texts(TEXTS)
    assert np.array_equal(np.float32(found["cohere"]), np.concatenate([texts, client.embed_images([PICTURE])]))
    assert found["cohere_int8"] == quantize(texts, "int8").tolist()
    assert found["cohere_ubinary"] == quantize(texts, "ubinary").tolist()


@pytest.mark.parametrize("name", ["litellm_triton", "langchain", "langchain_query", "llama_index", "llama_index_query"])
def test_texts_have_the_vectors_of_the_sdk(found: dict[str, Any], client: Client, name: str) -> None:
    expected = client.embed_texts(TEXTS[: len(found[name])])
    assert np.array_equal(np.float32(found[name]), expected)


def test_openai_reads_the_model_with_its_fingerprint(found: dict[str, Any], client: Client) -> None:
    assert found["model"] == f"tiny@{client.model_card().fingerprint}"
    assert found["models"] == [found["model"], "tiny"]
    assert found["tokens"] > 0


def test_openai_raises_its_own_errors(found: dict[str, Any]) -> None:
    assert found["errors"] == {
        "key": ["AuthenticationError", None, "invalid_api_key"],
        "model": ["NotFoundError", "model", "model_not_found"],
        "item": ["UnprocessableEntityError", "input[1]", "unsupported_format"],
        "dimensions": ["UnprocessableEntityError", "dimensions", "invalid_value"],
    }
