"""Clients of a server with several models: the choice of the model, and the effect of aliases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support.blocking import Blocking
from tuwen import AsyncClient, Client, EmbeddingSpaceError, InvalidArgumentError, ModelNotFoundError, Preprocess
from tuwen.testing import AsyncFakeTransport, FakeTransport

IMAGE = np.full((20, 30, 3), 90, dtype=np.uint8)
Make = Callable[..., Client]


@pytest.fixture
def fake() -> FakeTransport:
    return FakeTransport(embedding_dimension=32, models=["b16", "l14"])


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest, fake: FakeTransport) -> Iterator[Make]:
    """Yield a function that makes a client with the fake transport and the given options."""
    with ExitStack() as stack:

        def sync(**options: Any) -> Client:
            return stack.enter_context(Client(transport=fake, **options))

        def other(**options: Any) -> Any:
            return stack.enter_context(Blocking(lambda: AsyncClient(transport=AsyncFakeTransport(fake), **options)))

        yield sync if request.param == "sync" else other


@pytest.mark.parametrize(("preprocess", "images"), [("server", "image_embedding"), ("client", "pixel_embedding")])
def test_every_request_goes_to_the_chosen_model(
    make: Make, fake: FakeTransport, preprocess: Preprocess, images: str
) -> None:
    clip = make(model="l14", preprocess=preprocess)
    clip.embed_images([IMAGE])
    clip.embed_texts(["猫"])
    assert [request.model for request in fake.requests] == [f"l14_{images}", "l14_text_embedding"]


def test_two_models_have_vectors_of_two_spaces(make: Make) -> None:
    first, second = make(model="b16"), make(model="l14")
    assert first.model_card().fingerprint != second.model_card().fingerprint
    assert np.abs(first.embed_texts(["猫"]) - second.embed_texts(["猫"])).max() > 1e-3


def test_a_profile_counts_the_requests_of_its_model(make: Make) -> None:
    profile = make(model="l14").profile(images=[IMAGE], texts=["猫"])
    assert (profile.items, profile.requests) == (2, 2)


def test_a_client_without_a_model_raises_model_not_found_error(make: Make) -> None:
    with pytest.raises(ModelNotFoundError):
        make().embed_texts(["猫"])


def test_rejects_an_invalid_model_name(make: Make) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid model name 'B16'"):
        make(model="B16")


@pytest.mark.parametrize("preprocess", ["server", "client"])
def test_a_client_of_an_alias_refuses_the_vectors_of_its_new_model(
    make: Make, fake: FakeTransport, preprocess: Preprocess
) -> None:
    fake.cards["shop"] = fake.cards["b16"]
    clip = make(model="shop", preprocess=preprocess, remembered_texts=0)
    assert clip.model_card().name == "b16"
    before = clip.embed_texts(["猫"])
    np.testing.assert_array_equal(before, make(model="b16").embed_texts(["猫"]))
    fake.cards["shop"] = fake.cards["l14"]
    for call, items in ((clip.embed_texts, ["猫"]), (clip.embed_images, [IMAGE])):
        with pytest.raises(EmbeddingSpaceError, match=fake.cards["l14"].fingerprint):
            call(items)  # type: ignore[operator]
    fresh = make(model="shop")
    assert fresh.model_card().name == "l14"
    np.testing.assert_array_equal(fresh.embed_texts(["猫"]), make(model="l14").embed_texts(["猫"]))


def test_a_client_of_an_alias_accepts_a_new_build_of_the_same_space(make: Make, fake: FakeTransport) -> None:
    fake.cards["shop"] = fake.cards["b16"]
    clip = make(model="shop", remembered_texts=0)
    clip.embed_texts(["猫"])
    fake.cards["shop"] = replace(fake.cards["l14"], fingerprint=fake.cards["b16"].fingerprint)
    clip.embed_texts(["猫"])


def test_lists_the_cards_of_all_models_and_of_aliases(make: Make, fake: FakeTransport) -> None:
    fake.cards["shop"] = fake.cards["l14"]
    found = make(model="b16").models()
    assert {name: card.name for name, card in found.items()} == {"b16": "b16", "l14": "l14", "shop": "l14"}
    assert found["b16"].fingerprint == fake.cards["b16"].fingerprint


def test_is_ready_checks_the_clients_own_model(make: Make, fake: FakeTransport) -> None:
    clip = make(model="b16")
    assert clip.is_ready()
    del fake.cards["b16"]
    assert not clip.is_ready()
    assert make(model="l14").is_ready()


def test_shows_the_model_in_its_representation() -> None:
    assert "model='b16'" in repr(Client("localhost:8001", model="b16"))
    assert "model" not in repr(Client("localhost:8001"))
