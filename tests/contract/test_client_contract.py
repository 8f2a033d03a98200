"""The contract of both clients, tested on the fake server and on tritonserver.

Tests on tritonserver carry the marker `service`: `make check` runs only the tests on the fake server.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.blocking import Blocking
from tests.support.command import wait_until
from tuwen import (
    AsyncClient,
    Client,
    ClientClosedError,
    DeadlineExceededError,
    EmbeddedItem,
    EmbeddingSpaceError,
    InvalidArgumentError,
    InvalidItemsError,
    ItemOutcome,
    RefusedItem,
    TextTruncatedWarning,
)
from tuwen._routes import Routes
from tuwen.testing import AsyncFakeTransport, FakeTransport
from tuwen_repository.samples import PHOTOGRAPHS, sample

PHOTOS = [sample(name) for name in PHOTOGRAPHS]


@pytest.fixture(
    params=[
        "sync on the fake",
        "async on the fake",
        pytest.param("sync on the server", marks=pytest.mark.service),
        pytest.param("async on the server", marks=pytest.mark.service),
    ]
)
def clip(request: pytest.FixtureRequest) -> Iterator[Client]:
    fake = FakeTransport(embedding_dimension=64)
    url = request.getfixturevalue("server").grpc_url if "server" in request.param else ""
    connected: Any
    if request.param.startswith("sync"):
        connected = Client(url) if url else Client(transport=fake)
    else:
        connected = Blocking(lambda: AsyncClient(url) if url else AsyncClient(transport=AsyncFakeTransport(fake)))
    with connected:
        yield connected


def test_embeddings_are_unit_vectors_in_order(clip: Client) -> None:
    images = clip.embed_images(PHOTOS)
    texts = clip.embed_texts(["猫", "狗", ""])
    dimension = clip.model_card().embedding_dimension
    assert images.shape == (4, dimension)
    assert texts.shape == (3, dimension)
    for vectors in (images, texts):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(clip.embed_images(PHOTOS[::-1])[::-1], images, atol=1e-5)
    assert np.abs(images[0] - images[1]).max() > 1e-3
    assert np.abs(texts[0] - texts[1]).max() > 1e-3


def test_many_items_keep_their_order(clip: Client) -> None:
    texts = [f"第{number}张图片" for number in range(300)]
    together = clip.embed_texts(texts)
    for index in (0, 31, 32, 150, 299):
        np.testing.assert_allclose(together[index], clip.embed_texts([texts[index]])[0], atol=1e-5)


def test_an_image_is_the_same_in_every_form(clip: Client) -> None:
    with Image.open(PHOTOS[0]) as photo:
        photo.load()
    lossless = io.BytesIO()
    photo.save(lossless, "PNG", compress_level=1)
    forms = [lossless.getvalue(), bytearray(lossless.getvalue()), photo, np.asarray(photo)]
    vectors = clip.embed_images(forms)
    for vector in vectors[1:]:
        np.testing.assert_allclose(vector, vectors[0], atol=1e-6)
    np.testing.assert_array_equal(clip.embed_images([PHOTOS[0]]), clip.embed_images([str(PHOTOS[0])]))


def test_the_error_names_every_bad_image_and_no_good_one(clip: Client) -> None:
    photo = PHOTOS[0].read_bytes()
    items = [photo, b"", photo, b"no image", photo[:2000], "/nowhere.jpg", *[photo] * 10]
    with pytest.raises(InvalidItemsError) as caught:
        clip.embed_images(items)
    assert caught.value.total == 16
    assert [(failure.index, failure.reason) for failure in caught.value.failures] == [
        (1, "empty"),
        (3, "unsupported_format"),
        (4, "corrupt"),
        (5, "unreadable"),
    ]


def test_a_text_of_too_many_bytes_is_named(clip: Client) -> None:
    with pytest.raises(InvalidItemsError, match="item 1: too_many_bytes: the text has 300000 bytes, the limit is 262"):
        clip.embed_texts(["猫", "x" * 300_000])


def test_truncation_is_reported(clip: Client) -> None:
    with pytest.warns(
        TextTruncatedWarning, match=r"1 of 3 texts are longer than \d+ tokens, so their ends were ignored; positions: 1"
    ):
        clip.embed_texts(["猫", "猫" * 51, "猫" * 50])


def test_an_empty_list_gives_an_empty_array(clip: Client) -> None:
    dimension = clip.model_card().embedding_dimension
    assert clip.embed_images([]).shape == clip.embed_texts([]).shape == (0, dimension)


def test_similarity_gives_cosines_logits_and_probabilities(clip: Client) -> None:
    texts = ["一只猫", "一杯咖啡", "火箭"]
    scores = clip.similarity(images=PHOTOS[:2], texts=texts)
    assert scores.cosine.shape == scores.logits.shape == scores.probabilities.shape == (2, 3)
    np.testing.assert_allclose(scores.cosine, clip.embed_images(PHOTOS[:2]) @ clip.embed_texts(texts).T, atol=1e-5)
    np.testing.assert_allclose(scores.logits, scores.cosine * clip.model_card().logit_scale, rtol=1e-5)
    np.testing.assert_allclose(scores.probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(scores.probabilities.argmax(axis=1), scores.cosine.argmax(axis=1))


def test_a_classification_is_a_similarity_to_the_mean_of_the_templates(clip: Client) -> None:
    result = clip.classify(PHOTOS, ["猫", "咖啡", "火箭"], templates=["{}", "一张{}的照片"])
    texts = clip.embed_texts(["猫", "一张猫的照片", "咖啡", "一张咖啡的照片", "火箭", "一张火箭的照片"])
    means = texts.reshape(3, 2, -1).mean(axis=1)
    cosine = clip.embed_images(PHOTOS) @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    np.testing.assert_allclose(result.scores.cosine, cosine, atol=1e-5)
    np.testing.assert_array_equal(result.best, np.array(result.labels)[cosine.argmax(axis=1)])


def test_the_model_card_has_fingerprint_context_and_batch_size(clip: Client) -> None:
    card = clip.model_card()
    assert len(card.fingerprint) == 32
    assert card.context_length == 52
    assert card.max_batch_size == 32
    assert clip.model_card() is card


def test_an_exceeded_timeout_raises_a_typed_error(clip: Client) -> None:
    with pytest.raises(DeadlineExceededError):
        clip.embed_texts(["猫"] * 64, timeout=1e-6)


def test_outcomes_hold_vectors_reasons_and_truncation(clip: Client) -> None:
    outcomes = clip.try_embed_images([PHOTOS[0], b"no image", PHOTOS[1]])
    assert [outcome.error and outcome.error.reason for outcome in outcomes] == [None, "unsupported_format", None]
    assert outcomes[0].embedding is not None
    np.testing.assert_allclose(outcomes[0].embedding, clip.embed_images([PHOTOS[0]])[0], atol=1e-5)
    assert [outcome.truncated for outcome in clip.try_embed_texts(["猫", "猫" * 60])] == [False, True]


def test_streams_give_the_vectors_of_calls(clip: Client) -> None:
    outcomes = list(clip.stream_images([*PHOTOS, b""], window=2))
    assert [outcome.ok for outcome in outcomes] == [True] * 4 + [False]
    vectors = np.stack([outcome.embedding for outcome in outcomes if outcome.embedding is not None])
    np.testing.assert_allclose(vectors, clip.embed_images(PHOTOS), atol=1e-5)
    texts = [f"第{number}句" for number in range(50)]
    vectors = np.stack([outcome.embedding for outcome in clip.stream_texts(texts) if outcome.embedding is not None])
    np.testing.assert_allclose(vectors, clip.embed_texts(texts), atol=1e-5)


def test_the_vectors_of_outcomes_are_read_only(clip: Client) -> None:
    outcomes = [*clip.try_embed_texts(["猫"]), *clip.stream_texts(["狗"])]
    assert [outcome.embedding is not None and outcome.embedding.flags.writeable for outcome in outcomes] == [False] * 2


def test_statistics_count_the_requests_of_a_call(clip: Client) -> None:
    def counted() -> int:
        statistics = clip.statistics()
        return statistics["text_embedding"].requests if "text_embedding" in statistics else 0

    before = counted()
    clip.embed_texts([f"第{number}句" for number in range(64)])
    # "At least", because a server counts a request shortly after the answer: earlier requests may still be counted.
    wait_until(lambda: counted() >= before + 2)


def test_a_profile_names_every_part(clip: Client) -> None:
    profile = clip.profile(images=PHOTOS, texts=["猫", "狗"])
    assert (profile.items, profile.requests) == (6, 2)
    assert min(seconds for _, seconds in profile.parts) >= 0
    assert profile.total > 0


def test_a_server_that_answers_is_ready(clip: Client) -> None:
    assert clip.is_ready()


def test_a_closed_client_is_not_ready_and_refuses_calls(clip: Client) -> None:
    clip.embed_texts(["猫"])
    clip.close()
    clip.close()
    assert not clip.is_ready()
    with pytest.raises(ClientClosedError):
        clip.embed_texts(["猫"])


def test_one_client_serves_many_threads(clip: Client) -> None:
    expected = clip.embed_texts(["猫", "狗"])
    worst: list[float] = []

    def work() -> None:
        for _ in range(10):
            worst.append(float(np.abs(clip.embed_texts(["猫", "狗"]) - expected).max()))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worst) == 80
    assert max(worst) < 1e-5


def test_a_timeout_of_centuries_is_accepted(clip: Client) -> None:
    assert len(clip.embed_texts(["猫"], timeout=sys.maxsize)) == 1


def test_a_lazily_opened_picture_may_be_repeated_in_a_call(clip: Client) -> None:
    with Image.open(PHOTOS[0]) as picture, Image.open(PHOTOS[0]) as again:
        vectors = clip.embed_images([picture, picture] * 8)
        [expected] = clip.embed_images([again])
    np.testing.assert_allclose(vectors, np.broadcast_to(expected, vectors.shape), atol=1e-5)


def test_a_stream_gives_the_items_before_an_error_of_its_source(clip: Client) -> None:
    def source() -> Iterator[str]:
        for number in range(60):
            yield f"第{number}张"
        raise LookupError("the source is broken")

    keys = []
    with pytest.raises(LookupError, match="the source is broken"):  # noqa: PT012 - the loop is what raises
        for item in clip.stream_texts(source()):
            keys.append(item.key)
    assert keys == [f"第{number}张" for number in range(60)]


@pytest.mark.parametrize("count", [1, 40, 100])
@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        ("text", 3, "expected a text as str, got int"),
        ("image", 3, "expected an image as a path, data: URL, .*, got int"),
        ("image", np.zeros((2, 2)), "expected an array of dtype uint8 .*, got float64"),
        ("image", "http://example.com/cat.png", "web addresses need a client with"),
        ("image", io.StringIO("cat"), "expected an image file opened in binary mode"),
    ],
    ids=["text", "number", "array", "address", "text file"],
)
def test_a_stream_gives_the_items_before_an_item_of_a_wrong_type(
    clip: Client, kind: str, wrong: Any, message: str, count: int
) -> None:
    good: list[Any] = [PHOTOS[0]] * count if kind == "image" else [f"第{number}张" for number in range(count)]
    stream: Any = clip.stream_images if kind == "image" else clip.stream_texts
    indices = []
    with pytest.raises(InvalidArgumentError, match=f"^{kind} {count}: {message}"):  # noqa: PT012 - the loop raises
        for item in stream([*good, wrong, good[0]]):
            indices.append(item.index)
    assert indices == list(range(count))


def test_an_outcome_has_an_embedding_or_an_error(clip: Client) -> None:
    good, bad = clip.try_embed_images([PHOTOS[0], b""])
    assert isinstance(good, EmbeddedItem)
    assert (good.ok, good.error, good.embedding.dtype) == (True, None, np.float32)
    assert isinstance(bad, RefusedItem)
    assert (bad.ok, bad.embedding, bad.error.reason) == (False, None, "empty")
    assert isinstance(good, ItemOutcome)
    assert isinstance(bad, ItemOutcome)
    assert good != clip.try_embed_images([PHOTOS[0]])[0]  # compared by identity, which raises no error for arrays


def test_scores_are_compared_by_identity(clip: Client) -> None:
    first, second = (clip.classify(PHOTOS[:1], ["猫", "狗"], templates="none") for _ in range(2))
    assert first != second
    assert first.scores != second.scores
    assert first == first  # noqa: PLR0124 - what is tested


def test_a_large_file_is_refused_by_its_size(clip: Client, tmp_path: Path) -> None:
    with (tmp_path / "large.tiff").open("wb") as file:
        file.truncate((1 << 31) + 1)
    large, good = clip.try_embed_images([tmp_path / "large.tiff", PHOTOS[0]])
    assert large.error is not None
    assert large.error.reason == "too_many_bytes"
    assert good.ok


def test_pixels_of_another_size_than_the_server_expects_are_refused(clip: Client) -> None:
    card = clip.model_card()
    other = replace(card, image_size=2 * card.image_size)  # the card of another server behind the same name
    pipeline = getattr(clip, "_client", clip)._pipeline
    pipeline._card, pipeline._routes = other, Routes("client")
    with pytest.raises(EmbeddingSpaceError, match="another image size"):
        clip.embed_images([PHOTOS[0]])
