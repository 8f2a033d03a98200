"""The client never mixes vectors of two embedding spaces, even if the server behind an address changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.blocking import Make
from tuwen import EmbeddingSpaceError, InferenceError, ModelCard
from tuwen.testing import FakeTransport

IMAGE = np.zeros((4, 4, 3), dtype=np.uint8)


def upgraded(fake: FakeTransport) -> FakeTransport:
    fake.card = replace(fake.card, fingerprint="f" * 32)
    return fake


def test_the_expected_space_is_accepted(make: Make) -> None:
    with make(FakeTransport(), expected_fingerprint="0" * 32) as clip:
        assert clip.embed_texts(["猫"]).shape == (1, 512)


@pytest.mark.parametrize("scale", ["nan", "inf", "-inf", "1e999"])
def test_a_card_whose_logit_scale_is_not_finite_is_refused(scale: str) -> None:
    """A model card with an infinite or NaN logit scale is refused, because every probability would be NaN."""
    card = FakeTransport().card
    assert ModelCard.from_parameters(card.to_parameters(), 32) == replace(card, max_batch_size=32)
    with pytest.raises(InferenceError, match="model card is missing or broken .logit_scale: expected a finite number"):
        ModelCard.from_parameters({**card.to_parameters(), "logit_scale": scale}, 32)


@pytest.mark.parametrize("preprocess", ["server", "client"])
def test_another_space_than_expected_is_refused_before_anything_is_sent(make: Make, preprocess: str) -> None:
    fake = FakeTransport(fingerprint="a" * 32)
    with make(fake, expected_fingerprint="0" * 32, preprocess=preprocess) as clip:
        for call in (lambda: clip.embed_images([IMAGE]), lambda: list(clip.stream_texts(["猫"])), clip.model_card):
            with pytest.raises(EmbeddingSpaceError, match="the embedding space a{32}, expected 0{32}") as caught:
                call()
            assert (caught.value.expected, caught.value.found) == ("0" * 32, "a" * 32)
            assert not caught.value.retryable
    assert fake.requests == []


@pytest.mark.parametrize("preprocess", ["server", "client"])
def test_an_upgraded_server_is_noticed_at_its_next_response(make: Make, preprocess: str) -> None:
    fake = FakeTransport()
    with make(fake, preprocess=preprocess) as clip:
        clip.embed_images([IMAGE])
        upgraded(fake)
        calls = [
            lambda: clip.embed_images([IMAGE]),
            lambda: clip.try_embed_images([IMAGE]),
            lambda: clip.classify([IMAGE], ["猫", "狗"]),
            lambda: list(clip.stream_images([IMAGE])),
            lambda: clip.profile(images=[IMAGE]),
        ]
        for call in calls:
            with pytest.raises(EmbeddingSpaceError):
                call()


class TwoServers(FakeTransport):
    """A fake of two servers behind one name. The first sends all model cards, and the second all embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self._first = self.card
        upgraded(self)

    def model_card(self, timeout: float, model: str = "") -> ModelCard:
        """Return the model card of the first server."""
        super().model_card(timeout, model)
        return self._first


@pytest.mark.parametrize("preprocess", ["server", "client"])
def test_a_response_of_another_space_than_the_card_is_refused(make: Make, preprocess: str) -> None:
    with make(TwoServers(), preprocess=preprocess) as clip:
        for call in (
            lambda: clip.embed_images([IMAGE]),
            lambda: clip.try_embed_images([IMAGE]),
            lambda: list(clip.stream_images([IMAGE])),
            lambda: clip.profile(images=[IMAGE]),
            lambda: clip.embed_texts(["猫"]),
        ):
            with pytest.raises(EmbeddingSpaceError) as caught:
                call()
            assert (caught.value.expected, caught.value.found) == ("0" * 32, "f" * 32)


class TwoImageSizes(TwoServers):
    """A fake of two servers behind one name, whose models require images of different sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.card = replace(self.card, image_size=336)


def test_another_image_size_of_the_server_raises_embedding_space_error(make: Make) -> None:
    with make(TwoImageSizes(), preprocess="client") as clip:
        for call in (
            lambda: clip.embed_images([IMAGE]),
            lambda: clip.embed_images([IMAGE] * 30),
            lambda: clip.try_embed_images([IMAGE]),
            lambda: list(clip.stream_images([IMAGE] * 30)),
            lambda: clip.profile(images=[IMAGE]),
        ):
            with pytest.raises(EmbeddingSpaceError, match="a server with another image size .* than 0{32}") as caught:
                call()
            assert (caught.value.expected, caught.value.found) == ("0" * 32, "")


def test_an_upgrade_in_the_middle_of_a_stream_ends_it(make: Make) -> None:
    fake = FakeTransport()
    with make(fake) as clip, pytest.raises(EmbeddingSpaceError):  # noqa: PT012 - the loop is what raises
        for item in clip.stream_texts([f"第{number}句" for number in range(1000)], window=32):
            if item.index == 100:
                upgraded(fake)
