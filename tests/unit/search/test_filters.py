"""A value never changes the meaning of a filter, whatever characters it contains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuwen_search import Collection, Query, QueryError
from tuwen_search.filters import any_of, checked_id, compared, literal
from tuwen_search.records import Picture, picture_id
from tuwen_search.store import MilvusStore, Space

_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40) | st.text(st.sampled_from("\"'\\\n\r\tn])x "), max_size=20)
INJECTION = '") or id != ("'


def read_back(written: str) -> str:
    """Read a string literal as Milvus does: the literal ends at the first quote without a backslash."""
    assert written[0] == '"'
    text, place = [], 1
    while written[place] != '"':
        if written[place] == "\\":
            place += 1
            text.append(_ESCAPED[written[place]])
        else:
            assert written[place] not in "\r\n"
            text.append(written[place])
        place += 1
    assert place == len(written) - 1, "the literal ends before its text"
    return "".join(text)


@given(TEXTS)
def test_a_literal_is_read_as_the_text_that_it_was_written_from(text: str) -> None:
    assert read_back(literal(text)) == text


@pytest.fixture(scope="module")
def named(store: MilvusStore) -> MilvusStore:
    """Return a store with the collection `filters`, in which each test case overwrites the same two pictures."""
    store.create("filters", Space("0" * 32, "fake", 4))
    store.load("filters")
    return store


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS.filter(lambda text: len(text.encode()) <= 64 and "\0" not in text))
def test_milvus_finds_the_row_that_holds_the_text_and_no_other(named: MilvusStore, text: str) -> None:
    pictures = [
        Picture(picture_id("s", name), "s", name, version) for name, version in (("this", text), ("other", "other!"))
    ]
    named.put("filters", pictures, [np.ones(4, np.float32)] * 2)
    for wanted in (compared("version", "==", text), any_of("version", [text, INJECTION])):
        rows = named._milvus.query("filters", filter=wanted, output_fields=["name"])
        assert [row["name"] for row in rows] == ["this"]


@pytest.mark.parametrize(
    "wrong", ["", "x", "a" * 31, "a" * 33, "A" * 32, "g" * 32, "a" * 32 + "\n", INJECTION, None, 5]
)
def test_an_id_is_32_hexadecimal_digits_or_refused(collection: Collection, wrong: str) -> None:
    with pytest.raises(QueryError, match="32 hexadecimal digits"):
        collection.get(wrong)
    with pytest.raises(QueryError, match="32 hexadecimal digits"):
        collection._store.remove("pictures", [wrong])
    if wrong is not None:
        with pytest.raises(QueryError, match="32 hexadecimal digits"):
            Query(like=wrong)


def test_an_id_of_no_picture_finds_nothing(collection: Collection) -> None:
    assert collection.get("0" * 32) is None
    assert collection._store.get("pictures", []) == {}
    assert checked_id("0123456789abcdef" * 2)


@pytest.mark.parametrize("field", ["", "1x", "id ==", 'metadata["year"]', "name or id"])
def test_rejects_a_field_that_is_an_expression(field: str) -> None:
    with pytest.raises(QueryError, match="expected a field's name"):
        compared(field, "==", "x")
    with pytest.raises(QueryError, match="expected a field's name"):
        any_of(field, ["x"])


def test_rejects_a_text_that_is_not_utf_8() -> None:
    with pytest.raises(QueryError, match="expected a text that UTF-8 can encode"):
        literal("\udcff")
