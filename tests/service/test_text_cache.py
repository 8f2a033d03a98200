"""Tests of the embedded server's text cache, which stores vectors but no failures."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from tests.support import metrics
from tests.support.servers import RecordedServer
from tuwen_repository.configs import config_path, read_config, write_config
from tuwen_server import EmbeddedServer, ServerOptions

pytestmark = [pytest.mark.our_backend, pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")]
_COUNTER = re.compile(r"^tuwen_text_cache_(hits|misses)_total (\d+)$", re.MULTILINE)
OPTIONS = replace(ServerOptions.on_free_ports(), check_files=False)


def embed(triton: InferenceServerClient, texts: Sequence[str | bytes], **options: Any) -> NDArray[np.float32]:
    """Return the vectors of texts, sent in one plain request. The SDK would not send texts that it has cached."""
    encoded = [text if isinstance(text, bytes) else text.encode() for text in texts]
    tensor = InferInput("text", [len(texts), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text] for text in encoded], dtype=object))
    found = triton.infer("text_embedding", [tensor], client_timeout=30, **options).as_numpy("embedding")
    assert found is not None
    return found


def counted(server: EmbeddedServer) -> dict[str, int]:
    """Return the cache's numbers of hits and misses since the server started, by the names ``hits`` and ``misses``."""
    return {name: int(value) for name, value in _COUNTER.findall(metrics.text(server.metrics_url))}


def new_texts(count: int) -> list[str]:
    """Return texts that no test has sent before."""
    return [f"第{number}只猫{uuid.uuid4().hex[:6]}" for number in range(count)]


def test_a_repeated_text_is_not_computed_again(server: RecordedServer, triton: InferenceServerClient) -> None:
    [text] = new_texts(1)
    before = counted(server)
    first, again = embed(triton, [text]), embed(triton, [text])
    after = counted(server)
    np.testing.assert_array_equal(first, again)
    assert {name: after[name] - before[name] for name in after} == {"hits": 1, "misses": 1}


def test_only_the_new_texts_of_a_batch_are_computed(server: RecordedServer, triton: InferenceServerClient) -> None:
    texts = new_texts(32)
    known = embed(triton, texts[:20])
    before = counted(server)
    found = embed(triton, texts[::-1])
    after = counted(server)
    np.testing.assert_array_equal(found[::-1][:20], known)
    np.testing.assert_allclose(found[::-1], np.concatenate([embed(triton, [text]) for text in texts]), atol=1e-5)
    assert {name: after[name] - before[name] for name in after} == {"hits": 20, "misses": 12}


def test_a_text_that_is_in_a_batch_twice_is_computed_once(
    server: RecordedServer, triton: InferenceServerClient
) -> None:
    one, two = new_texts(2)
    before = counted(server)
    found = embed(triton, [one, two, one, one])
    after = counted(server)
    np.testing.assert_array_equal(found[[0, 0]], found[[2, 3]])
    assert after["misses"] - before["misses"] == 2


def test_cached_answers_keep_the_form_that_each_caller_requests(triton: InferenceServerClient) -> None:
    """A cached text or refusal does not change the answer to another caller.

    Callers may request different outputs, and a status for each item instead of an error.
    """
    [text] = new_texts(1)
    embed(triton, [text], outputs=[InferRequestedOutput("embedding")])
    assert embed(triton, [text]).shape == (1, 64)
    embed(triton, [b"\xff"], parameters={"per_item_status": True})
    with pytest.raises(InferenceServerException, match="text 0: not_utf8"):
        embed(triton, [b"\xff"])


class FailsOnce(torch.nn.Module):
    """A text encoder that fails once, at the first text after the warm-up.

    The encoder recognizes warm-up batches by their values. Triton's warm-up batches have only zeros in the mask, and
    our backend's warm-up batch has only ones in the token ids.
    """

    def __init__(self, encoder: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("failures", torch.zeros(1))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if bool((attention_mask * (input_ids - 1)).any()) and bool(self.failures[0] == 0):
            self.failures += 1
            raise RuntimeError("simulated failure: out of memory")
        return self.encoder(input_ids, attention_mask)  # type: ignore[no-any-return]


@pytest.fixture
def fails_once(repository: Path, tmp_path: Path) -> Iterator[RecordedServer]:
    """Yield a server whose text encoder fails at the first text after its start."""
    copy = Path(shutil.copytree(repository, tmp_path / "repository"))
    weights = copy / "text_encoder" / "1" / "model.pt"
    encoder = torch.jit.load(str(weights))  # type: ignore[no-untyped-call]
    weights.unlink()
    torch.jit.save(torch.jit.script(FailsOnce(encoder)), str(weights))  # type: ignore[no-untyped-call]
    with RecordedServer(copy, OPTIONS) as server:
        yield server


def test_a_failure_is_not_cached(fails_once: RecordedServer, triton: InferenceServerClient) -> None:
    """A text whose first request failed is computed at its second request.

    The cache counts one miss, for the answered request only.

    Triton's own response cache would store the failed request as a success without outputs.
    """
    with closing(InferenceServerClient(fails_once.grpc_url)) as failing:
        with pytest.raises(InferenceServerException, match="out of memory"):
            embed(failing, ["一只猫"])
        np.testing.assert_allclose(embed(failing, ["一只猫"]), embed(triton, ["一只猫"]), atol=1e-5)
    assert counted(fails_once) == {"hits": 0, "misses": 1}


def test_two_instances_count_hits_and_misses_together(repository: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(repository, tmp_path / "repository"))
    config = read_config(config_path(copy, "text_encoder"))
    config.instance_group[0].count = 2
    write_config(config, config_path(copy, "text_encoder"))
    with (
        RecordedServer(copy, replace(OPTIONS, queue_policies=True)) as server,
        closing(InferenceServerClient(server.grpc_url)) as triton,
    ):
        for _ in range(8):
            embed(triton, ["一只猫"])
        found = counted(server)
    assert found["hits"] + found["misses"] == 8
    assert found["misses"] <= 2


def test_a_server_without_metrics_caches_vectors_too(repository: Path) -> None:
    silent = replace(OPTIONS, arguments=("--allow-metrics=false",))
    with RecordedServer(repository, silent) as server, closing(InferenceServerClient(server.grpc_url)) as triton:
        np.testing.assert_array_equal(embed(triton, ["一只猫"]), embed(triton, ["一只猫"]))
        assert server.trouble() is None
