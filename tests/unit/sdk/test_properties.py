"""Properties that hold for all calls. hypothesis searches for a call that violates a property."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tuwen import Client, InvalidArgumentError, InvalidItemsError
from tuwen._messages import encode_request
from tuwen._requests import parts
from tuwen._transport import InferRequest
from tuwen.connection import checked_headers
from tuwen.testing import FakeTransport

TEXTS = st.lists(st.text(st.characters(), max_size=20), max_size=40)
SOME = settings(max_examples=150, deadline=None)


def is_text(value: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in value)


@SOME
@given(TEXTS, st.integers(1, 64))
def test_every_item_is_in_exactly_one_request(texts: list[str], max_batch_size: int) -> None:
    found = parts("text", texts, max_batch_size)
    positions = [position for part in found for held in part.positions for position in held]
    assert sorted(positions) == list(range(len(texts)))
    for part in found:
        assert 1 <= len(part.items) <= max_batch_size
        for held, value in zip(part.positions, part.items, strict=True):
            assert all(texts[position] == value for position in held)


@SOME
@given(TEXTS)
def test_every_text_has_its_own_vector_or_failure(texts: list[str]) -> None:
    with Client(transport=FakeTransport(embedding_dimension=8)) as clip:
        outcomes = clip.try_embed_texts(texts)
        assert [outcome.index for outcome in outcomes] == list(range(len(texts)))
        assert [outcome.ok for outcome in outcomes] == [is_text(text) for text in texts]
        streamed = list(clip.stream_texts(texts, window=7))
        for text, outcome, again in zip(texts, outcomes, streamed, strict=True):
            assert outcome.ok == again.ok
            if outcome.embedding is not None and again.embedding is not None:
                assert abs(np.linalg.norm(outcome.embedding) - 1) < 1e-5
                np.testing.assert_array_equal(outcome.embedding, again.embedding)
                np.testing.assert_array_equal(outcome.embedding, clip.embed_texts([text])[0])
        bad = [index for index, text in enumerate(texts) if not is_text(text)]
        try:
            clip.embed_texts(texts)
            assert not bad
        except InvalidItemsError as error:
            assert [failure.index for failure in error.failures] == bad
            assert {failure.reason for failure in error.failures} == {"not_utf8"}


@SOME
@given(st.lists(st.binary(max_size=50), min_size=1, max_size=9), st.floats(1e-3, 1e4), st.booleans())
def test_a_request_message_can_be_parsed_back_to_its_items(items: list[bytes], timeout: float, bulk: bool) -> None:
    message = encode_request(InferRequest("m", "x", tuple(items), ("embedding",), bulk=bulk), timeout)
    assert list(message.inputs[0].shape) == [len(items), 1]
    raw, found = message.raw_input_contents[0], []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        found.append(raw[4 : 4 + length])
        raw = raw[4 + length :]
    assert found == items
    assert 0 < message.parameters["timeout"].int64_param <= timeout * 1e6
    assert ("priority" in message.parameters) == bulk


@SOME
@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12).map("{}s3cret".format), max_size=4))
def test_headers_are_accepted_or_refused_without_showing_their_values(headers: dict[str, str]) -> None:
    try:
        found = checked_headers(headers)
    except InvalidArgumentError as error:
        assert "s3cret" not in str(error)
    else:
        assert dict(found) == {name.lower(): value for name, value in headers.items()}
        for name, value in found:
            assert name == name.lower()
            assert value.isascii()
