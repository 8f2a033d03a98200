"""One edge serves several models: it chooses by name, lists all names, and follows changes of the models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tuwen import AsyncClient
from tuwen.testing import AsyncFakeTransport, FakeTransport
from tuwen_edge import EdgeOptions, create_app, models

Ask = Callable[..., httpx.Response]


@pytest.fixture
def fake() -> FakeTransport:
    return FakeTransport(embedding_dimension=16, models=["b16", "l14"])


@pytest.fixture
def ask(fake: FakeTransport, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Ask]]:
    """Yield a function that makes an edge with the given options, and returns a function that sends a request."""
    monkeypatch.setattr(models, "_REFRESH_SECONDS", 0.0)
    loop = asyncio.new_event_loop()
    with ExitStack() as stack:
        stack.callback(loop.close)

        def make(**settings: Any) -> Ask:
            options = EdgeOptions(**{"access_log": False} | settings)

            def connect(name: str) -> AsyncClient:
                return AsyncClient(transport=AsyncFakeTransport(fake), model=name)

            app = create_app(options, connect(options.model), connect=connect)
            client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
            stack.callback(lambda: loop.run_until_complete(loop.shutdown_default_executor()))
            stack.callback(lambda: loop.run_until_complete(client.aclose()))

            def send(method: str, path: str, body: Any = None) -> httpx.Response:
                return loop.run_until_complete(client.request(method, path, json=body))

            return send

        yield make


def vector(answer: httpx.Response) -> list[float]:
    return list(answer.json()["data"][0]["embedding"])


def test_a_request_chooses_a_model_by_name(ask: Callable[..., Ask], fake: FakeTransport) -> None:
    send = ask()
    found = {}
    for name in ("b16", "l14"):
        answer = send("POST", "/v1/embeddings", {"input": "猫", "model": name})
        fingerprint = fake.cards[name].fingerprint
        assert answer.json()["model"] == f"{name}@{fingerprint}"
        assert answer.headers["tuwen-fingerprint"] == fingerprint
        found[name] = vector(answer)
        assert vector(send("POST", "/v1/embeddings", {"input": "猫", "model": f"{name}@{fingerprint}"})) == found[name]
    assert found["b16"] != found["l14"]


def test_every_api_chooses_a_model_by_name(ask: Callable[..., Ask], fake: FakeTransport) -> None:
    send = ask()
    bodies = {
        "/v1/similarity": {"images": ["aW1hZ2U="], "texts": ["猫"]},
        "/v1/rerank": {"query": "猫", "documents": ["狗"]},
        "/v1/classify": {"input": "猫", "labels": ["狗"]},
        "/v2/embed": {"texts": ["鸟"], "input_type": "search_query", "embedding_types": ["float"]},
    }
    for path, body in bodies.items():
        fake.requests.clear()
        send("POST", path, {**body, "model": "l14"})
        assert {request.model.partition("_")[0] for request in fake.requests} == {"l14"}, path
    tensor = {"name": "input_text", "shape": [1], "datatype": "BYTES", "data": ["鱼"]}
    fake.requests.clear()
    assert send("POST", "/v2/models/l14_text_embedding/infer", {"inputs": [tensor]}).status_code == 200
    assert [request.model for request in fake.requests] == ["l14_text_embedding"]


def test_all_names_are_listed(ask: Callable[..., Ask], fake: FakeTransport) -> None:
    fake.cards["shop"] = fake.cards["b16"]
    listed = [model["id"] for model in ask()("GET", "/v1/models").json()["data"]]
    marks = {name: card.fingerprint for name, card in fake.cards.items()}
    assert listed == [part for name in ("b16", "l14", "shop") for part in (f"{name}@{marks[name]}", name)]
    assert ask()("GET", "/v1/models/l14").json()["id"] == "l14"


def test_without_a_name_the_chosen_default_answers(ask: Callable[..., Ask], fake: FakeTransport) -> None:
    answer = ask(model="l14")("POST", "/v1/embeddings", {"input": "猫"})
    assert answer.json()["model"] == f"l14@{fake.cards['l14'].fingerprint}"


def test_without_a_name_the_only_model_answers(ask: Callable[..., Ask], fake: FakeTransport) -> None:
    del fake.cards["l14"]
    send = ask()
    assert send("POST", "/v1/embeddings", {"input": "猫"}).json()["model"].startswith("b16@")
    assert send("POST", "/vectorize", {"texts": ["猫"]}).status_code == 200
    assert send("GET", "/health").json()["model"] == "b16"


def test_without_a_name_and_a_default_the_caller_is_asked_for_one(ask: Callable[..., Ask]) -> None:
    send = ask()
    answer = send("POST", "/v1/embeddings", {"input": "猫"})
    assert answer.status_code == 400
    assert "name one of 'b16', 'l14'" in answer.json()["error"]["message"]
    assert send("GET", "/health").status_code == 200


def test_an_unknown_name_is_answered_with_the_known_ones(ask: Callable[..., Ask]) -> None:
    answer = ask(model="b16")("POST", "/v1/embeddings", {"input": "猫", "model": "b32"})
    assert answer.status_code == 404
    assert "'l14'" in answer.json()["error"]["message"]


def test_a_model_that_is_loaded_later_is_found(ask: Callable[..., Ask], fake: FakeTransport) -> None:
    kept = fake.cards.pop("l14")
    send = ask(model="b16")
    assert send("POST", "/v1/embeddings", {"input": "猫", "model": "l14"}).status_code == 404
    fake.cards["l14"] = kept
    assert send("POST", "/v1/embeddings", {"input": "猫", "model": "l14"}).status_code == 200


def test_an_alias_that_was_switched_gives_its_new_space(ask: Callable[..., Ask], fake: FakeTransport) -> None:
    send = ask(model="b16")
    fake.cards["shop"] = fake.cards["b16"]
    old = f"shop@{fake.cards['b16'].fingerprint}"
    assert send("POST", "/v1/embeddings", {"input": "猫", "model": old}).json()["model"] == old
    fake.cards["shop"] = fake.cards["l14"]
    send("GET", "/v1/models")
    answer = send("POST", "/v1/embeddings", {"input": "猫", "model": "shop"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == f"shop@{fake.cards['l14'].fingerprint}"
    assert send("POST", "/v1/embeddings", {"input": "猫", "model": old}).status_code == 404
