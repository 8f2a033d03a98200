"""Tests of the server with a plain tritonclient, without the SDK."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from tuwen import Client
from tuwen_repository.samples import sample

PHOTO = sample("cat.jpg").read_bytes()


def infer(
    triton: tritonclient.grpc.InferenceServerClient, kind: str, items: list[bytes], **options: object
) -> tritonclient.grpc.InferResult:
    tensor = tritonclient.grpc.InferInput(kind, [len(items), 1], "BYTES")
    tensor.set_data_from_numpy(np.array(items, dtype=object).reshape(-1, 1))
    return triton.infer(f"{kind}_embedding", [tensor], client_timeout=30, **options)


def test_a_plain_client_gets_the_vectors_of_the_sdk(
    triton: tritonclient.grpc.InferenceServerClient, client: Client
) -> None:
    for kind, items, expected in (
        ("image", [PHOTO], client.embed_images([PHOTO])),
        ("text", ["一只猫".encode()], client.embed_texts(["一只猫"])),
    ):
        np.testing.assert_allclose(infer(triton, kind, items).as_numpy("embedding"), expected, atol=1e-6)


def test_a_bad_item_fails_its_request_and_is_named(triton: tritonclient.grpc.InferenceServerClient) -> None:
    with pytest.raises(
        InferenceServerException, match="2 of 3 images refused: image 1: empty: .*; image 2: unsupp"
    ) as e:
        infer(triton, "image", [PHOTO, b"", b"x"])
    assert e.value.status() == "StatusCode.INVALID_ARGUMENT"
    with pytest.raises(InferenceServerException, match="1 of 2 texts refused: text 1: not_utf8: byte 1 is not") as e:
        infer(triton, "text", ["猫".encode(), b"a\xff"])
    assert e.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_a_request_may_ask_for_the_status_of_each_item(
    triton: tritonclient.grpc.InferenceServerClient, client: Client
) -> None:
    result = infer(triton, "image", [b"x", PHOTO], parameters={"per_item_status": True})
    statuses = [status.decode() for status in result.as_numpy("status")[:, 0]]
    assert statuses[0].startswith("unsupported_format: ")
    assert statuses[1] == ""
    np.testing.assert_allclose(result.as_numpy("embedding")[1], client.embed_images([PHOTO])[0], atol=1e-6)
    result = infer(triton, "text", [b"\xff", "猫".encode()], parameters={"per_item_status": True})
    np.testing.assert_allclose(result.as_numpy("embedding")[1], client.embed_texts(["猫"])[0], atol=1e-6)
    assert result.as_numpy("status")[0, 0] == b"not_utf8: byte 0 is not UTF-8"


def test_truncation_is_reported_for_each_item(triton: tritonclient.grpc.InferenceServerClient) -> None:
    result = infer(triton, "text", ["猫".encode(), ("猫" * 51).encode(), ("猫" * 50).encode()])
    assert result.as_numpy("truncated").tolist() == [[False], [True], [False]]


@pytest.mark.parametrize("count", [0, 33])
def test_batches_outside_the_limits_are_refused(triton: tritonclient.grpc.InferenceServerClient, count: int) -> None:
    with pytest.raises(InferenceServerException):
        infer(triton, "text", [b"x"] * count)
    assert infer(triton, "text", [b"x"]).as_numpy("embedding").shape == (1, 64)


def test_the_output_for_pixels_is_named_after_the_embedding_space(
    triton: tritonclient.grpc.InferenceServerClient, client: Client
) -> None:
    card = client.model_card()
    pixels = np.zeros((1, 3, card.image_size, card.image_size), dtype=np.uint8)
    tensor = tritonclient.grpc.InferInput("pixel_values", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels)
    response = triton.infer("pixel_embedding", [tensor], client_timeout=30).get_response()
    assert [(output.name, list(output.shape)) for output in response.outputs] == [
        (f"embedding.{card.fingerprint}", [1, card.embedding_dimension])
    ]
