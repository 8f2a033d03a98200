"""The edge answers the requests that clients of Cohere, Jina, Weaviate, MT-Photos and Triton send."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.support.edge import EdgeInMemory, base64_of, data_url, png
from tuwen import Client
from tuwen.testing import FakeTransport
from tuwen_files.quantization import quantize

PICTURE, OTHER = png(), png("blue")


@pytest.fixture
def client() -> Any:
    with Client(transport=FakeTransport()) as connected:
        yield connected


def test_cohere_embeds_texts_in_several_forms(edge: EdgeInMemory, client: Client) -> None:
    types = ["float", "int8", "ubinary"]
    request = {
        "model": "fake",
        "texts": ["a", "b"],
        "input_type": "search_query",
        "embedding_types": types,
        "truncate": "END",
    }
    answer = edge.post("/v2/embed", request).json()
    expected = client.embed_texts(["a", "b"])
    assert np.array_equal(np.float32(answer["embeddings"]["float"]), expected)
    assert answer["embeddings"]["int8"] == quantize(expected, "int8").tolist()
    assert list(answer["embeddings"]) == types
    assert answer["texts"] == ["a", "b"]
    assert answer["meta"]["billed_units"] == {"input_tokens": 6, "images": 0}


def test_cohere_embeds_images_and_mixed_inputs(edge: EdgeInMemory, client: Client) -> None:
    of_images = edge.post("/v2/embed", {"model": "fake", "images": [data_url(PICTURE)]}).json()
    assert np.array_equal(np.float32(of_images["embeddings"]["float"]), client.embed_images([PICTURE]))
    inputs = [
        {"content": [{"type": "image_url", "image_url": {"url": data_url(PICTURE)}}]},
        {"content": [{"type": "text", "text": "a"}]},
    ]
    mixed = edge.post("/v2/embed", {"model": "fake", "inputs": inputs}).json()
    assert mixed["embeddings"]["float"][0] == of_images["embeddings"]["float"][0]
    assert mixed["texts"] == ["a"]


@pytest.mark.parametrize(
    ("request_body", "status"),
    [
        ({"model": "fake"}, 422),
        ({"model": "fake", "texts": ["a"], "images": ["b"]}, 422),
        ({"model": "fake", "texts": ["a"], "output_dimension": 256}, 422),
        ({"model": "other", "texts": ["a"]}, 404),
        ({"texts": ["a"]}, 400),
        ({"model": "fake", "texts": ["a"], "truncate": "START"}, 400),
    ],
)
def test_cohere_errors_have_a_message(edge: EdgeInMemory, request_body: Any, status: int) -> None:
    answer = edge.post("/v2/embed", request_body)
    assert answer.status_code == status
    assert set(answer.json()) == {"id", "message"}


def test_reranks_pictures_and_texts_by_a_query(edge: EdgeInMemory, client: Client) -> None:
    documents = ["b", {"image": base64_of(PICTURE)}, {"text": "猫"}, "猫"]
    answer = edge.post("/v1/rerank", {"query": "猫", "documents": documents, "top_n": 3}).json()
    cosines = np.concatenate(
        [client.embed_texts(["b"]), client.embed_images([PICTURE]), client.embed_texts(["猫", "猫"])]
    )
    cosines = cosines @ client.embed_texts(["猫"])[0]
    assert [one["index"] for one in answer["results"]] == np.argsort(-cosines, kind="stable")[:3].tolist()
    assert answer["results"][0]["index"] == 2
    assert answer["results"][0]["document"] == {"text": "猫"}
    assert answer["results"][0]["relevance_score"] == pytest.approx(1)


def test_a_rerank_can_leave_out_the_documents(edge: EdgeInMemory) -> None:
    request = {"query": {"image": base64_of(PICTURE)}, "documents": ["a"], "return_documents": False}
    answer = edge.post("/v1/rerank", request).json()
    assert set(answer["results"][0]) == {"index", "relevance_score"}


@pytest.mark.parametrize("templates", ["zh", "none", ["{}的照片"]])
def test_classifies_as_the_sdk_does(edge: EdgeInMemory, client: Client, templates: Any) -> None:
    request = {
        "input": [{"image": base64_of(PICTURE)}, data_url(OTHER)],
        "labels": ["猫", "狗"],
        "templates": templates,
    }
    answer = edge.post("/v1/classify", request).json()
    expected = client.classify([PICTURE, OTHER], ["猫", "狗"], templates=templates)
    assert [one["prediction"] for one in answer["data"]] == list(expected.best)
    found = [[score["score"] for score in one["predictions"]] for one in answer["data"]]
    assert np.array_equal(np.float32(found), expected.scores.probabilities)
    assert answer["data"][0]["score"] == max(found[0])


def test_a_label_that_is_there_twice_is_refused(edge: EdgeInMemory) -> None:
    answer = edge.post("/v1/classify", {"input": "a", "labels": ["猫", "猫"]})
    assert answer.status_code == 422


def test_compares_every_image_with_every_text(edge: EdgeInMemory, client: Client) -> None:
    request = {"images": [base64_of(PICTURE), {"image": data_url(OTHER)}], "texts": ["猫", {"text": "狗"}, "鸟"]}
    answer = edge.post("/v1/similarity", request).json()
    expected = client.similarity(images=[PICTURE, OTHER], texts=["猫", "狗", "鸟"])
    for name in ("cosine", "logits", "probabilities"):
        assert np.array_equal(np.float32(answer[name]), getattr(expected, name))


def test_weaviate_vectorizes_texts_and_images(edge: EdgeInMemory, client: Client) -> None:
    answer = edge.post("/vectorize", {"texts": ["a"], "images": [base64_of(PICTURE), base64_of(OTHER)]}).json()
    assert np.array_equal(np.float32(answer["textVectors"]), client.embed_texts(["a"]))
    assert np.array_equal(np.float32(answer["imageVectors"]), client.embed_images([PICTURE, OTHER]))
    assert edge.post("/vectorize", {"texts": [], "images": None}).json() == {"textVectors": [], "imageVectors": []}
    assert edge.post("/vectorize", {"images": ["!"]}).json()["error"].startswith("1 of 1 items")


def test_weaviate_asks_for_readiness_and_for_the_model(edge: EdgeInMemory) -> None:
    for path in ("/.well-known/ready", "/.well-known/live"):
        answer = edge.get(path)
        assert (answer.status_code, answer.content) == (204, b"")
    assert edge.get("/meta").json()["embedding_dimension"] == 512


def test_mt_photos_gets_numbers_as_strings(edge: EdgeInMemory, client: Client) -> None:
    text = edge.post("/clip/txt", {"text": "飞机"}).json()
    assert np.array_equal(np.float32(text["result"]), client.embed_texts(["飞机"])[0])
    assert text["results"] == text["result"]
    picture = edge.post("/clip/img", files={"file": ("a.jpg", PICTURE, "image/jpeg")}).json()
    assert np.array_equal(np.float32(picture["result"]), client.embed_images([PICTURE])[0])


def test_mt_photos_is_told_of_a_bad_picture_with_an_empty_result(edge: EdgeInMemory) -> None:
    answer = edge.post("/clip/img", files={"file": ("a.jpg", b"no picture", "image/jpeg")})
    assert answer.status_code == 200
    assert answer.json()["result"] == []
    assert "not an image" in answer.json()["msg"]


def test_mt_photos_checks_and_restarts(edge: EdgeInMemory) -> None:
    assert edge.post("/check").json() == {"result": "pass"}
    assert edge.post("/restart_v2").json() == {"result": "unsupported"}


@pytest.mark.parametrize("data", [["a", "b"], "a"])
def test_litellm_sends_an_input_text_without_a_media_type(edge: EdgeInMemory, client: Client, data: Any) -> None:
    texts = [data] if isinstance(data, str) else data
    tensor = {"name": "input_text", "shape": [len(data)], "datatype": "BYTES", "data": data}
    answer = edge.post("/v2/models/text_embedding/infer", content=json.dumps({"inputs": [tensor]})).json()
    [output] = answer["outputs"]
    assert output["shape"] == [len(texts), 512]
    assert np.array_equal(np.float32(output["data"]).reshape(-1, 512), client.embed_texts(texts))
