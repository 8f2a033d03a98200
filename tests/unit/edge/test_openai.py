"""OpenAI's API: requests are embedded, responses have OpenAI's form, and invalid requests are refused."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from tests.support.edge import EdgeInMemory, base64_of, data_url, png
from tuwen import Client
from tuwen.testing import FakeTransport
from tuwen_files.quantization import quantize

PICTURE = png()


def vectors(answer: dict[str, Any]) -> np.ndarray:
    return np.array([one["embedding"] for one in answer["data"]], dtype=np.float32)


def expected(*items: str | bytes) -> np.ndarray:
    with Client(transport=FakeTransport(context_length=4096)) as client:
        return np.stack(
            [
                client.embed_texts([item])[0] if isinstance(item, str) else client.embed_images([item])[0]
                for item in items
            ]
        )


def test_a_string_has_the_vector_of_the_sdk(edge: EdgeInMemory) -> None:
    answer = edge.post("/v1/embeddings", {"input": "一只猫", "model": "fake"})
    assert answer.status_code == 200
    content = answer.json()
    assert np.array_equal(vectors(content), expected("一只猫"))
    assert content["object"] == "list"
    assert [(one["object"], one["index"]) for one in content["data"]] == [("embedding", 0)]
    assert content["model"] == f"fake@{'0' * 32}"
    assert answer.headers["tuwen-fingerprint"] == "0" * 32
    assert content["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


def test_answers_mixed_items_in_their_order(edge: EdgeInMemory) -> None:
    items = ["a", data_url(PICTURE), {"image": base64_of(PICTURE)}, {"text": data_url(PICTURE)}, {"text": "b"}]
    answer = edge.post("/v1/embeddings", {"input": items})
    assert np.array_equal(vectors(answer.json()), expected("a", PICTURE, PICTURE, data_url(PICTURE), "b"))
    assert [one["index"] for one in answer.json()["data"]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("modality", ["text", "image"])
def test_the_modality_says_what_strings_are(edge: EdgeInMemory, modality: str) -> None:
    text = base64_of(PICTURE)
    answer = edge.post("/v1/embeddings", {"input": [text], "modality": modality})
    assert np.array_equal(vectors(answer.json()), expected(PICTURE if modality == "image" else text))


def test_base64_holds_the_floats_in_little_endian_order(edge: EdgeInMemory) -> None:
    answer = edge.post("/v1/embeddings", {"input": ["a", "b"], "encoding_format": "base64"}).json()
    found = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in answer["data"]]
    assert np.array_equal(np.stack(found), expected("a", "b"))


@pytest.mark.parametrize("form", ["int8", "uint8", "binary", "ubinary"])
def test_quantised_vectors_are_those_of_the_sdk(edge: EdgeInMemory, form: Any) -> None:
    answer = edge.post("/v1/embeddings", {"input": ["a", "b"], "encoding_format": form}).json()
    assert [one["embedding"] for one in answer["data"]] == quantize(expected("a", "b"), form).tolist()


def test_every_float_keeps_its_bits_in_json() -> None:
    fake = FakeTransport(embedding_dimension=4096)
    with EdgeInMemory(fake) as edge, Client(transport=FakeTransport(embedding_dimension=4096)) as client:
        texts = [f"text {number}" for number in range(50)]
        answer = edge.post("/v1/embeddings", {"input": texts}).json()
        assert vectors(answer).tobytes() == client.embed_texts(texts).tobytes()


def test_names_every_bad_item_with_its_index(edge: EdgeInMemory) -> None:
    items = ["a", {"image": "!"}, data_url(PICTURE), {"image": base64_of(b"no picture")}]
    answer = edge.post("/v1/embeddings", {"input": items})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert [(item["index"], item["reason"]) for item in error["items"]] == [
        (1, "unreadable"),
        (3, "unsupported_format"),
    ]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "input[1]", "unreadable")
    assert "item 1" in error["message"]


def test_a_string_never_becomes_a_path(edge: EdgeInMemory) -> None:
    for value in ("/etc/passwd", "file:///etc/passwd", "../x.png"):
        answer = edge.post("/v1/embeddings", {"input": {"image": value}})
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] in ("unreadable", "unsupported_format")


def test_fetches_no_web_address_unless_the_operator_names_the_host(edge: EdgeInMemory) -> None:
    answer = edge.post("/v1/embeddings", {"input": ["a", {"image": "http://10.0.0.1/x.png"}]})
    assert answer.status_code == 422
    assert answer.json()["error"]["items"][0] | {"message": ""} == {"index": 1, "reason": "not_fetched", "message": ""}


def test_long_texts_are_cut_and_named_in_a_header(edge: EdgeInMemory) -> None:
    answer = edge.post("/v1/embeddings", {"input": ["a", "b" * 100]})
    assert answer.status_code == 200
    assert answer.headers["tuwen-truncated"] == "1"


def test_long_texts_are_refused_on_request(edge: EdgeInMemory) -> None:
    answer = edge.post("/v1/embeddings", {"input": ["a", "b" * 100], "truncate": "NONE"})
    assert answer.status_code == 422
    assert answer.json()["error"]["items"][0]["reason"] == "too_long"


def test_refuses_dimensions_unless_they_are_those_of_the_model(edge: EdgeInMemory) -> None:
    assert edge.post("/v1/embeddings", {"input": "a", "dimensions": 512}).status_code == 200
    answer = edge.post("/v1/embeddings", {"input": "a", "dimensions": 256})
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == "dimensions"
    assert "512" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ({}, "input"),
        ({"input": []}, None),
        ({"input": [[1, 2]]}, "input"),
        ({"input": [1, 2]}, "input"),
        ({"input": "a", "inputs": "b"}, "inputs"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "dimensions": "512"}, "dimensions"),
        ({"input": {"image": "a", "text": "b"}}, None),
        ([], None),
    ],
)
def test_an_invalid_request_is_refused(edge: EdgeInMemory, content: Any, param: str | None) -> None:
    answer = edge.post("/v1/embeddings", content)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    if param is not None:
        assert error["param"] == param


def test_token_numbers_are_refused_with_a_way_out(edge: EdgeInMemory) -> None:
    message = edge.post("/v1/embeddings", {"input": [[9906, 1917]]}).json()["error"]["message"]
    assert "check_embedding_ctx_length=False" in message


def test_an_error_does_not_repeat_what_was_sent(edge: EdgeInMemory) -> None:
    answer = edge.post("/v1/embeddings", {"input": {"text": ["a secret"]}})
    assert answer.status_code == 400
    assert "secret" not in answer.text


def test_the_model_has_a_name_a_fingerprint_and_aliases() -> None:
    with EdgeInMemory(model_name="clip", aliases=("text-embedding-3-small",)) as edge:
        names = [one["id"] for one in edge.get("/v1/models").json()["data"]]
        assert names == [f"clip@{'0' * 32}", "clip", "text-embedding-3-small"]
        for name in names:
            assert edge.post("/v1/embeddings", {"input": "a", "model": name}).status_code == 200
            assert edge.get(f"/v1/models/{name}").json()["id"] == name


@pytest.mark.parametrize("name", ["other", f"fake@{'1' * 32}"])
def test_another_model_is_not_found(edge: EdgeInMemory, name: str) -> None:
    answer = edge.post("/v1/embeddings", {"input": "a", "model": name})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert edge.get(f"/v1/models/{name}").status_code == 404


def test_an_alias_for_every_name_does_not_hide_another_fingerprint() -> None:
    with EdgeInMemory(aliases=("*",)) as edge:
        assert edge.post("/v1/embeddings", {"input": "a", "model": "whatever"}).status_code == 200
        assert edge.post("/v1/embeddings", {"input": "a", "model": f"fake@{'1' * 32}"}).status_code == 404


def test_refuses_more_items_than_the_limit() -> None:
    with EdgeInMemory(max_items=2) as edge:
        assert edge.post("/v1/embeddings", {"input": ["a", "b"]}).status_code == 200
        answer = edge.post("/v1/embeddings", {"input": ["a", "b", "c"]})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_many_items")
        assert len(edge.fake.requests) == 1
