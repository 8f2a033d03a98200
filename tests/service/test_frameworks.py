"""Tests of the integrations for LangChain, LlamaIndex and Haystack with the real frameworks, on the demo's model."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.artefacts import Artefacts
from tests.support.frameworks import PYTHON, run_in_frameworks
from tests.support.paths import CACHE, GALLERY, ROOT
from tests.support.repositories import demo_repository
from tests.support.servers import SharedServers

PICTURES = [GALLERY / "猫.png", GALLERY / "狗.png"]
OTHER_SPACE = r"EmbeddingSpaceError: the server's vectors belong to the embedding space \w{32}, expected 0{32}; .+"


@pytest.fixture(scope="module")
def found(servers: SharedServers, artefacts: Artefacts) -> dict[str, Any]:
    """Return the results of every framework by its name, and the SDK's vectors under ``texts`` and ``pictures``."""
    url = servers.on(demo_repository(artefacts)).grpc_url
    finished = run_in_frameworks("tests/reference/frameworks.py", url, *map(str, PICTURES))
    content: dict[str, Any] = json.loads(finished.splitlines()[-1])
    return content


def same(found: object, expected: object) -> bool:
    """Return whether vectors differ by at most 1e-5. The size of a batch changes the last digits."""
    return np.allclose(np.float32(found), np.float32(expected), rtol=0, atol=1e-5)


def test_langchain_has_the_vectors_of_the_sdk(found: dict[str, Any]) -> None:
    langchain = found["langchain"]
    assert same(langchain["documents"], found["texts"])
    assert same(langchain["query"], found["texts"][0])
    assert same([langchain["images"], langchain["image"]], [found["pictures"]] * 2)
    assert same(langchain["loops"], [[*found["texts"], found["texts"][0]]] * 2)


def test_a_store_of_langchain_finds_pictures_by_words(found: dict[str, Any]) -> None:
    [best, second] = found["langchain"]["album"]
    assert [best[0], second[0]] == [str(path) for path in PICTURES]
    assert best[1] > second[1]


def test_langchain_embeds_more_documents_than_a_request_holds(found: dict[str, Any]) -> None:
    assert found["langchain"]["many"] == 1000


def test_langchain_names_every_refused_and_every_truncated_item(found: dict[str, Any]) -> None:
    pattern = r"InvalidItemsError: 2 of 3 images refused: item 1: unsupported_format: .+; item 2: unreadable: .+"
    assert re.fullmatch(pattern, found["langchain"]["refused"])
    assert found["langchain"]["truncated"] == ["1 of 2 texts were cut to the model's context length: 1"]


def test_langchain_refuses_an_unknown_kind_of_documents(found: dict[str, Any]) -> None:
    expected = "InvalidArgumentError: documents: expected 'texts' or 'images', got 'pictures'"
    assert found["langchain"]["documents of what"] == expected


@pytest.mark.parametrize("framework", ["langchain", "llama_index"])
def test_another_embedding_space_is_refused(found: dict[str, Any], framework: str) -> None:
    assert re.fullmatch(OTHER_SPACE, found[framework]["space"])


def test_llama_index_has_the_vectors_of_the_sdk(found: dict[str, Any]) -> None:
    llama_index, texts, pictures = found["llama_index"], found["texts"], found["pictures"]
    assert same([llama_index["texts"], llama_index["nodes"]], [texts] * 2)
    assert same(llama_index["query"], texts[0])
    assert same([llama_index["images"], llama_index["batch"]], [pictures] * 2)
    assert same(llama_index["loops"], [[*texts, texts[0], pictures[0], *pictures]] * 2)


def test_an_index_of_llama_index_finds_pictures_by_words(found: dict[str, Any]) -> None:
    assert [name for name, _ in found["llama_index"]["retrieved"]] == ["猫", "狗"]


def test_llama_index_copies_an_embedding_into_another_process(found: dict[str, Any]) -> None:
    assert same(found["llama_index"]["copied"], found["texts"][0])
    assert found["llama_index"]["saved"] == 9
    assert found["llama_index"]["not copied"].startswith("TypeError: a TuwenEmbedding with client= cannot be")


def test_haystack_has_the_vectors_of_the_sdk(found: dict[str, Any]) -> None:
    haystack, meta = found["haystack"], {"model": "tuwen", "fingerprint": found["fingerprint"]}
    assert same(haystack["text"]["embedding"], found["texts"][0])
    assert haystack["text"]["meta"] == haystack["meta"] == meta
    assert same(haystack["documents"], found["texts"])
    assert same(haystack["blobs"], found["pictures"])
    assert same(haystack["titled"], found["titled"])


@pytest.mark.parametrize("way", ["saved", "asynchronous"])
def test_a_pipeline_of_haystack_finds_pictures_by_words(found: dict[str, Any], way: str) -> None:
    assert [name for name, _ in found["haystack"]["found"]] == ["猫", "狗"]
    assert found["haystack"][way] == ["猫", "狗"]


def test_haystack_raises_or_logs_a_refused_document(found: dict[str, Any]) -> None:
    haystack = found["haystack"]
    assert haystack["refused"].startswith("InvalidItemsError: 1 of 2 images refused: item 1: unsupported_format: ")
    assert haystack["lenient"] == [True, False]
    assert re.fullmatch(r"document \w+ has no embedding: unsupported_format: .+\n", haystack["logged"])


def test_haystack_reads_no_file_outside_the_root(found: dict[str, Any]) -> None:
    assert re.fullmatch(
        r"InvalidArgumentError: document \w+: expected a path inside '.+', got '../etc/passwd'",
        found["haystack"]["outside"],
    )


def test_haystack_names_a_document_without_an_image(found: dict[str, Any]) -> None:
    assert re.fullmatch(
        r"InvalidArgumentError: document \w+: expected a blob or a path in meta\['file_path'\], got None",
        found["haystack"]["nothing"],
    )


def test_a_closed_pipeline_reconnects_and_never_closes_a_given_client(found: dict[str, Any]) -> None:
    assert same(found["haystack"]["closed"], [found["texts"][0]] * 3)


def test_haystack_refuses_to_save_a_pipeline_with_its_own_client(found: dict[str, Any]) -> None:
    assert found["haystack"]["not saved"].startswith("SerializationError: ")


def test_the_integrations_fit_the_types_of_the_frameworks(tmp_path: Path) -> None:
    options = ["--strict", "--explicit-package-bases", "--follow-imports", "silent", "--cache-dir", CACHE / "mypy"]
    finished = subprocess.run(
        [PYTHON, "-m", "mypy", *options, ROOT / "client" / "tuwen_integrations"],
        cwd=tmp_path,  # without the project's mypy settings, which treat the frameworks' types as Any
        env={**os.environ, "MYPYPATH": str(ROOT / "client")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
