"""The requests that a call sends, and the results that it returns for each item."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.blocking import Make
from tuwen import (
    Client,
    DeadlineExceededError,
    InferenceError,
    InvalidArgumentError,
    InvalidItemsError,
    ModelCard,
    TextTruncatedWarning,
    pixels,
)
from tuwen._routes import Routes
from tuwen.testing import FakeTransport
from tuwen_repository.samples import PHOTOGRAPHS, sample

PHOTOS = [sample(name) for name in PHOTOGRAPHS]


def sent(fake: FakeTransport) -> list[list[str]]:
    return [[item.decode() for item in request.items] for request in fake.requests]


def test_texts_that_the_client_remembers_are_not_sent(make: Make) -> None:
    fake = FakeTransport()
    with make(fake) as clip:
        first = clip.embed_texts(["猫", "狗", "鸟"])
        again = clip.embed_texts(["鸟", "鱼", "猫", "鱼"])
        assert sent(fake) == [["猫", "狗", "鸟"], ["鱼"]]
        np.testing.assert_array_equal(again[[0, 2]], first[[2, 0]])
        np.testing.assert_array_equal(again[1], again[3])
        assert [outcome.ok for outcome in clip.try_embed_texts(["狗", "鱼"])] == [True, True]
        clip.similarity(images=[PHOTOS[0]], texts=["猫", "狗"])
    assert [request.model for request in fake.requests[2:]] == ["image_embedding"]


def test_a_remembered_text_that_was_truncated_is_reported_again(make: Make) -> None:
    with make(FakeTransport()) as clip:
        for _ in range(2):
            with pytest.warns(TextTruncatedWarning, match="1 of 2 texts are longer .* ignored; positions: 1$"):
                clip.embed_texts(["猫", "x" * 60])
        assert [outcome.truncated for outcome in clip.try_embed_texts(["x" * 60, "猫"])] == [True, False]


def test_a_text_that_was_refused_is_sent_again(make: Make) -> None:
    fake, huge = FakeTransport(), "x" * 300_000
    with make(fake) as clip:
        for _ in range(2):
            assert [outcome.ok for outcome in clip.try_embed_texts([huge])] == [False]
    assert len(fake.requests) == 2


def test_texts_of_a_failed_call_are_not_remembered(make: Make) -> None:
    fake = FakeTransport(fail_with=InferenceError("broken"), fail_times=1)
    with make(fake) as clip:
        with pytest.raises(InferenceError):
            clip.embed_texts(["猫"])
        assert clip.embed_texts(["猫"]).shape == (1, 512)
    assert sent(fake) == [["猫"], ["猫"]]


def test_a_client_remembers_at_most_the_given_number_of_texts(make: Make) -> None:
    for size, requests in ((0, [["猫"], ["狗"], ["猫"]]), (1, [["猫"], ["狗"], ["猫"]]), (2, [["猫"], ["狗"]])):
        fake = FakeTransport()
        with make(fake, remembered_texts=size) as clip:
            for text in ("猫", "狗", "猫"):
                clip.embed_texts([text])
        assert sent(fake) == requests, size
    with pytest.raises(InvalidArgumentError, match="remembered_texts: expected 0 or more, got -1"):
        make(FakeTransport(), remembered_texts=-1)


def test_changing_an_embedding_does_not_change_the_remembered_one(make: Make) -> None:
    with make(FakeTransport()) as clip:
        first = clip.embed_texts(["猫"])
        expected = first.copy()
        first[:] = 0
        [outcome] = clip.try_embed_texts(["猫"])
        with pytest.raises(ValueError, match="read-only"):
            outcome.embedding[:] = 0
        np.testing.assert_array_equal(clip.embed_texts(["猫"]), expected)


def test_a_repeated_text_is_sent_once(make: Make) -> None:
    fake = FakeTransport()
    texts = ["猫", "狗", "猫", "猫", "x" * 60, "x" * 60]
    with make(fake) as clip:
        with pytest.warns(TextTruncatedWarning, match="2 of 6 texts are longer .* ignored; positions: 4, 5$"):
            vectors = clip.embed_texts(texts)
        assert sent(fake) == [["猫", "狗", "x" * 60]]
        np.testing.assert_array_equal(vectors[[0, 2, 3]], vectors[[0, 0, 0]])
        np.testing.assert_array_equal(vectors[1], clip.embed_texts(["狗"])[0])


def test_every_position_of_a_refused_text_is_named(make: Make) -> None:
    huge = "x" * 300_000
    with make(FakeTransport()) as clip, pytest.raises(InvalidItemsError) as caught:
        clip.embed_texts([huge, "猫", huge])
    assert [failure.index for failure in caught.value.failures] == [0, 2]


@pytest.mark.parametrize("wrong", [3, None, ["a"], b"bytes"])
def test_an_item_that_is_not_a_text_is_named_by_its_position(make: Make, wrong: object) -> None:
    with make(FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match="text 1: expected a text as str"):
        clip.embed_texts(["猫", wrong, "猫"])


def test_try_embed_images_returns_an_outcome_for_each_image(make: Make, tmp_path: Path) -> None:
    images = [PHOTOS[0], b"", tmp_path / "missing.jpg", PHOTOS[1].read_bytes(), *PHOTOS * 4]
    with make(FakeTransport()) as clip:
        outcomes = clip.try_embed_images(images)
        good = [image for image, outcome in zip(images, outcomes, strict=True) if outcome.ok]
        np.testing.assert_array_equal(np.stack([o.embedding for o in outcomes if o.ok]), clip.embed_images(good))
    assert [outcome.index for outcome in outcomes] == list(range(20))
    assert [outcome.key for outcome in outcomes[:4]] == [PHOTOS[0], 1, tmp_path / "missing.jpg", 3]
    assert [outcome.error and outcome.error.reason for outcome in outcomes[:4]] == [None, "empty", "unreadable", None]


def test_outcomes_of_texts_state_whether_the_text_was_truncated(make: Make) -> None:
    with make(FakeTransport()) as clip:
        outcomes = clip.try_embed_texts(["猫", "x" * 60, "猫"])
        assert clip.try_embed_texts([]) == []
    assert [outcome.truncated for outcome in outcomes] == [False, True, False]
    assert [outcome.key for outcome in outcomes] == ["猫", "x" * 60, "猫"]


def test_an_error_of_the_server_names_the_items_of_its_request(make: Make) -> None:
    fake = FakeTransport(fail_with=InferenceError("broken", model="text_embedding", code="INTERNAL"))
    with make(fake) as clip, pytest.raises(InferenceError) as caught:
        clip.embed_texts([str(number) for number in range(100)])
    assert caught.value.items == tuple(range(32))
    assert str(caught.value) == "broken (model text_embedding, INTERNAL, items 0 to 31)"


def test_an_expired_timeout_names_the_items_that_were_not_embedded(make: Make) -> None:
    with make(FakeTransport()) as clip:
        clip.model_card()
        with pytest.raises(DeadlineExceededError) as caught:
            clip.embed_texts(["猫"], timeout=1e-9)
    assert caught.value.items == (0,)


def test_pixel_values_are_sent_to_the_model_pixel_embedding(make: Make) -> None:
    fake = FakeTransport()
    with make(fake, preprocess="client") as clip:
        vectors = clip.embed_images(PHOTOS)
        with pytest.raises(InvalidItemsError) as caught:
            clip.embed_images([PHOTOS[0], b"", b"no image", PHOTOS[1].read_bytes()[:2000]])
        clip.embed_texts(["猫"])
    assert vectors.shape == (4, 512)
    assert [failure.reason for failure in caught.value.failures] == ["empty", "unsupported_format", "corrupt"]
    request = fake.requests[0]
    assert (request.model, request.input_name, request.item_shape) == ("pixel_embedding", "pixel_values", (3, 224, 224))
    assert [len(item) for item in request.items] == [3 * 224 * 224] * 4
    assert fake.requests[-1].model == "text_embedding"


@pytest.mark.parametrize(
    ("resize", "rules", "decoding"), [("squash", "reference", "scaled"), ("crop", "display", "full")]
)
def test_pixel_values_follow_the_image_rules_of_the_card(resize: str, rules: str, decoding: str) -> None:
    card = replace(FakeTransport().card, image_size=64, resize=resize, image_rules=rules, jpeg_decoding=decoding)
    route = Routes("client").to("image", card)
    expected = pixels.Preprocessor(64, resize, rules, jpeg_decoding=decoding).pixel_values(PHOTOS[0].read_bytes())
    assert route.payloads([PHOTOS[0]]) == [expected.tobytes()]


def test_the_model_card_is_read_once(make: Make) -> None:
    class Counting(FakeTransport):
        """A fake transport that counts how often the client requests the model card."""

        asked = 0

        def model_card(self, timeout: float, model: str = "") -> ModelCard:
            self.asked += 1
            return super().model_card(timeout, model)

    fake = Counting()
    with make(fake, preprocess="client") as clip:
        for _ in range(3):
            clip.embed_images(PHOTOS)
        list(clip.stream_images(PHOTOS))
        clip.similarity(images=PHOTOS, texts=["猫"])
    assert fake.asked == 1


def test_an_unknown_preprocess_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="preprocess: expected 'server' or 'client', got 'gpu'"):
        Client(transport=FakeTransport(), preprocess="gpu")  # type: ignore[arg-type]


def test_the_parts_of_a_profile_add_up_to_its_total(make: Make) -> None:
    with make(FakeTransport()) as clip:
        profile = clip.profile(images=PHOTOS * 3, texts=["猫"])
        with pytest.raises(InvalidArgumentError, match="expected images or texts"):
            clip.profile()
        with pytest.raises(InvalidItemsError):
            clip.profile(images=[b""])
    assert (profile.items, profile.requests) == (13, 3)
    assert profile.total == pytest.approx(sum(seconds for _, seconds in profile.parts))
    assert all(seconds >= 0 for _, seconds in profile.parts)
    assert profile.client > 0
    assert str(profile).count(os.linesep) == 6


def test_statistics_count_requests_and_items(make: Make) -> None:
    with make(FakeTransport()) as clip:
        clip.embed_texts([str(number) for number in range(100)])
        counted = clip.statistics()["text_embedding"]
    assert (counted.requests, counted.items) == (4, 100)
    assert counted.mean_batch_size == 25
