"""The conversion of a stream's outcomes to the lists of numbers that frameworks expect."""

from __future__ import annotations

import numpy as np
import pytest

from tuwen import Client, InvalidItemsError, TextTruncatedWarning
from tuwen.testing import FakeTransport
from tuwen_integrations._vectors import vectors_and_failures, vectors_of


@pytest.fixture
def clip() -> Client:
    return Client(transport=FakeTransport(embedding_dimension=4))


def test_a_stream_gives_the_vectors_of_a_call(clip: Client) -> None:
    texts = ["一只猫", "一只狗"]
    found = vectors_of("text", clip.stream_texts(texts))
    assert isinstance(found[0][0], float)
    assert np.array_equal(np.float32(found), clip.embed_texts(texts))


def test_a_refused_item_keeps_its_place(clip: Client) -> None:
    vectors, [failure] = vectors_and_failures(clip.stream_images([b"no picture", np.zeros((8, 8, 3), np.uint8)]))
    assert vectors[0] is None
    assert vectors[1] is not None
    assert failure.index == 0


def test_the_error_lists_every_refused_item(clip: Client) -> None:
    with pytest.raises(InvalidItemsError, match="2 of 3 images refused: item 0: .+; item 2: ") as caught:
        vectors_of("image", clip.stream_images([b"no picture", np.zeros((8, 8, 3), np.uint8), "missing.png"]))
    assert [failure.index for failure in caught.value.failures] == [0, 2]


def test_warns_of_truncated_texts(clip: Client) -> None:
    with pytest.warns(TextTruncatedWarning, match="^12 of 13 texts were cut .+: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...$"):
        vectors_of("text", clip.stream_texts(["短", *["长" * 100] * 12]))


def test_an_empty_stream_gives_no_vectors(clip: Client) -> None:
    assert vectors_of("text", clip.stream_texts([])) == []
