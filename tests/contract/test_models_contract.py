"""The contract of both clients with several models on one server, tested on the fake server and on tritonserver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest

from tests.support.blocking import Blocking
from tuwen import (
    AsyncClient,
    Client,
    EmbeddingSpaceError,
    ModelNotFoundError,
    RetryPolicy,
    ServerStoppingError,
)
from tuwen.testing import AsyncFakeTransport, FakeTransport
from tuwen_repository.samples import PHOTOGRAPHS, sample

PHOTO = sample(PHOTOGRAPHS[0])
_KEY = "a-key-for-the-contract"
_ONCE = RetryPolicy(attempts=1)


@dataclass
class Service:
    """A server with two models, ``b16`` and ``clip``, which have different families and embedding spaces.

    Attributes:
        connect: a function that returns a client with the given options.
        alias: a function that gives a model an alias. Its arguments are the alias and the model's name.
        unload, load: functions that unload and load a model by its name.
    """

    connect: Callable[..., Any]
    alias: Callable[[str, str], object]
    unload: Callable[[str], object]
    load: Callable[[str], object]


def _fake() -> Service:
    fake = FakeTransport(embedding_dimension=32, models=["b16", "clip"])
    kept = dict(fake.cards)

    def connect(asynchronous: bool, **options: Any) -> Any:
        if asynchronous:
            return Blocking(lambda: AsyncClient(transport=AsyncFakeTransport(fake), **options))
        return Client(transport=fake, **options)

    def alias(name: str, target: str) -> None:
        fake.cards[name] = fake.cards[target]

    return Service(connect, alias, fake.cards.pop, lambda name: fake.cards.update({name: kept[name]}))


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Yield a tritonserver that serves repositories of two families."""
    from tests.support.repositories import Built, minimal_clip, write_short_clip_vocabulary
    from tests.support.servers import RecordedServer
    from tuwen_build.options import BuildOptions
    from tuwen_server import ServerOptions

    built = Built(request.getfixturevalue("artefacts"))
    vocabulary = write_short_clip_vocabulary(request.getfixturevalue("tmp_path_factory").mktemp("vocabulary"))
    clip = minimal_clip(request.getfixturevalue("artefacts"), vocabulary)
    repositories = [
        built(BuildOptions(name="b16")),
        built.of(clip, "minimal-clip-repository", BuildOptions(name="clip")),
    ]
    with RecordedServer(cast("Any", repositories), replace(ServerOptions.on_free_ports(), key=_KEY)) as server:
        yield server


@contextmanager
def _real(url: str) -> Iterator[Service]:
    from tuwen_server import ModelAdministrator

    def connect(asynchronous: bool, **options: Any) -> Any:
        return Blocking(lambda: AsyncClient(url, **options)) if asynchronous else Client(url, **options)

    with ModelAdministrator(url, key=_KEY) as administrator:
        yield Service(connect, administrator.alias, administrator.unload, administrator.load)
        for model in administrator.models():  # restores the models for the next test
            if model.alias_of is not None and model.state != "unloaded":
                administrator.unload(model.name)
            elif model.state == "unloaded" and model.name in ("b16", "clip"):
                administrator.load(model.name)


@pytest.fixture(
    params=[
        "sync on the fake",
        "async on the fake",
        pytest.param("sync on the server", marks=pytest.mark.service),
        pytest.param("async on the server", marks=pytest.mark.service),
    ]
)
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    with ExitStack() as stack:
        if "server" in request.param:
            found = stack.enter_context(_real(request.getfixturevalue("running").grpc_url))
        else:
            found = _fake()
        asynchronous = request.param.startswith("async")

        def connect(**options: Any) -> Any:
            return stack.enter_context(found.connect(asynchronous, **{"remembered_texts": 0, **options}))

        yield replace(found, connect=connect)


def test_each_model_has_its_own_space(service: Service) -> None:
    for preprocess in ("server", "client"):
        first, second = (service.connect(model=name, preprocess=preprocess) for name in ("b16", "clip"))
        assert first.model_card().fingerprint != second.model_card().fingerprint
        for clip in (first, second):
            dimension = clip.model_card().embedding_dimension
            assert clip.embed_images([PHOTO]).shape == clip.embed_texts(["cat"]).shape == (1, dimension)
            profile = clip.profile(images=[PHOTO], texts=["cat"])
            assert profile.requests == 2


def test_every_model_is_listed(service: Service) -> None:
    service.alias("shop", "clip")
    found = service.connect(model="b16").models()
    assert {name: card.name for name, card in found.items()} == {"b16": "b16", "clip": "clip", "shop": "clip"}
    assert found["shop"].fingerprint == service.connect(model="clip").model_card().fingerprint


def test_a_client_with_an_unknown_model_name_is_refused(service: Service) -> None:
    for options in ({"model": "l14"}, {}):
        with pytest.raises(ModelNotFoundError):
            service.connect(**options).embed_texts(["cat"])
    assert not service.connect(model="l14").is_ready()


def test_an_alias_gives_the_vectors_of_its_model(service: Service) -> None:
    service.alias("shop", "b16")
    alias, own = service.connect(model="shop"), service.connect(model="b16")
    assert alias.is_ready()
    np.testing.assert_allclose(alias.embed_texts(["cat"]), own.embed_texts(["cat"]), atol=1e-5)
    np.testing.assert_allclose(alias.embed_images([PHOTO]), own.embed_images([PHOTO]), atol=1e-5)
    assert alias.profile(images=[PHOTO]).encoder >= 0


def test_a_client_never_mixes_the_spaces_of_an_alias(service: Service) -> None:
    service.alias("shop", "b16")
    bound = [service.connect(model="shop", preprocess=preprocess) for preprocess in ("server", "client")]
    for clip in bound:
        clip.embed_texts(["cat"])
    service.alias("shop", "clip")
    for clip in bound:
        for call, items in ((clip.embed_texts, ["cat"]), (clip.embed_images, [PHOTO])):
            with pytest.raises(EmbeddingSpaceError):
                call(items)
    fresh, own = service.connect(model="shop"), service.connect(model="clip")
    np.testing.assert_allclose(fresh.embed_texts(["cat"]), own.embed_texts(["cat"]), atol=1e-5)
    expected = bound[0].model_card().fingerprint
    with pytest.raises(EmbeddingSpaceError):
        service.connect(model="shop", expected_fingerprint=expected).embed_texts(["cat"])


def test_an_unloaded_model_refuses_calls_until_it_is_loaded_again(service: Service) -> None:
    clip, other = service.connect(model="clip", retries=_ONCE), service.connect(model="b16")
    before = clip.embed_texts(["cat"])
    service.unload("clip")
    with pytest.raises(ServerStoppingError) as caught:
        clip.embed_texts(["cat"])
    assert caught.value.retryable
    assert not clip.is_ready()
    assert sorted(other.models()) == ["b16"]
    assert other.embed_texts(["cat"]).shape[0] == 1
    service.load("clip")
    assert clip.is_ready()
    np.testing.assert_allclose(clip.embed_texts(["cat"]), before, atol=1e-5)
