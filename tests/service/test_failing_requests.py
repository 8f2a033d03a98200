"""Requests that fail in an encoder get an error, and harm neither the server nor other callers."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput, InferResult
from tritonclient.utils import InferenceServerException

from tuwen import Client
from tuwen_server import EmbeddedServer


def infer(url: str, model: str, **tensors: NDArray[np.generic]) -> InferResult:
    """Send one plain request whose inputs are INT64 or BYTES tensors, and return the result."""
    inputs = []
    for name, values in tensors.items():
        inputs.append(InferInput(name, list(values.shape), "BYTES" if values.dtype == object else "INT64"))
        inputs[-1].set_data_from_numpy(values)
    with closing(InferenceServerClient(url)) as triton:
        return triton.infer(model, inputs, client_timeout=30)


def test_concurrent_failing_requests_get_errors_and_the_server_survives(server: EmbeddedServer, client: Client) -> None:
    expected = client.embed_texts(["一只猫"])

    def fail(number: int) -> str:
        ids, mask = np.full((1, 7), number, np.int64), np.ones((1, 0), np.int64)
        with pytest.raises(InferenceServerException) as caught:
            infer(server.grpc_url, "text_encoder", input_ids=ids, attention_mask=mask)
        return str(caught.value)

    with ThreadPoolExecutor(32) as callers:
        messages = set(callers.map(fail, range(300)))
    assert all(message.startswith("[StatusCode.INVALID_ARGUMENT]") for message in messages)
    assert server.trouble() is None
    with Client(server.grpc_url) as another:  # `client` may have cached the vector of the text
        np.testing.assert_array_equal(another.embed_texts(["一只猫"]), expected)


def test_a_request_of_another_shape_does_not_change_the_answer_to_another_caller(
    server: EmbeddedServer, client: Client
) -> None:
    """A request with token ids in a wrong shape is refused, and a correct request with the same ids is answered.

    Triton's own response cache would return the wrong answer, because its key leaves out the shapes.
    """
    text = f"一只会飞的猫{uuid.uuid4().hex[:4]}"
    tokens = infer(server.grpc_url, "text_tokenization", text=np.array([[text.encode()]], dtype=object))
    ids, mask = tokens.as_numpy("input_ids"), tokens.as_numpy("attention_mask")
    with pytest.raises(InferenceServerException, match=r"expected .*52.*, got .*26"):
        infer(server.grpc_url, "text_encoder", input_ids=ids.reshape(2, -1), attention_mask=mask.reshape(2, -1))
    assert client.embed_texts([text]).shape == (1, client.model_card().embedding_dimension)


def test_a_text_without_tokens_is_refused(server: EmbeddedServer) -> None:
    nothing = np.ones((1, 0), np.int64)
    with pytest.raises(InferenceServerException, match=r"\[StatusCode.INVALID_ARGUMENT\]"):
        infer(server.grpc_url, "text_encoder", input_ids=nothing, attention_mask=nothing)
