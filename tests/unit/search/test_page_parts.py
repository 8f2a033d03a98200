"""The parts of the search page, each tested alone: uploads, suggestions, names, page numbers and messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tuwen import (
    AccessDeniedError,
    AddressError,
    DeadlineExceededError,
    InvalidItemsError,
    OverloadedError,
    ServerUnavailableError,
)
from tuwen_search import QueryError, StoreError
from tuwen_search.records import Picture
from tuwen_search.web._address import Address
from tuwen_search.web._messages import message_of
from tuwen_search.web._subjects import SUBJECTS
from tuwen_search.web._suggestions import frequent, suggested, understood, written_in
from tuwen_search.web._translations import WORDS
from tuwen_search.web._uploads import Upload, Uploads
from tuwen_search.web._view import page_numbers, shown_name
from tuwen_search.web._words import Language


def test_uploads_keep_the_most_recently_used_pictures() -> None:
    uploads = Uploads(10)
    first, second = (uploads.keep(Upload(bytes([number]) * 4, "", "")) for number in (1, 2))
    assert uploads.get(first) is not None
    third = uploads.keep(Upload(b"3" * 4, "", ""))
    assert uploads.get(second) is None
    assert uploads.get(first) is not None
    assert uploads.get(third) is not None
    large = uploads.keep(Upload(b"4" * 99, "", ""))
    assert uploads.get(large) is not None
    assert uploads.get(third) is None


def test_the_same_picture_has_the_same_key_in_one_process_only() -> None:
    uploads, others = Uploads(99), Uploads(99)
    key = uploads.keep(Upload(b"picture", "a.png", ""))
    assert uploads.keep(Upload(b"picture", "b.png", "")) == key
    assert others.keep(Upload(b"picture", "a.png", "")) != key
    assert others.get(key) is None


def test_suggests_the_subjects_that_most_pictures_show() -> None:
    axes = np.eye(4, dtype=np.float32)
    pictures = [axes[2]] * 5 + [axes[0]] * 3 + [axes[3]]
    assert frequent(axes, np.asarray(pictures)) == [2, 0, 3]


def shuffled(vectors: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    """Simulate the vectors of texts that a model does not understand.

    The vectors resemble each other, and are unrelated to the pictures.
    """
    noise = np.random.default_rng(1).normal(size=vectors.shape).astype(np.float32)
    texts: NDArray[np.float32] = noise * strength + 1
    return texts / np.linalg.norm(texts, axis=1, keepdims=True)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_suggests_subjects_in_the_language_that_the_model_understands(language: Language) -> None:
    other: Language = "en" if language == "zh" else "zh"
    count = len(SUBJECTS["zh"])
    clear = np.eye(count, dtype=np.float32)
    pictures = clear[[3] * 4 + [5] * 3 + [9] * 2 + [12]]
    both = suggested(language, {"zh": clear, "en": clear}, pictures)
    assert [text for text, _ in both.texts][:3] == [SUBJECTS[language][index] for index in (3, 5, 9)]
    assert not both.other_language
    vectors = {other: clear, language: shuffled(clear, 0.1)}
    only_other = suggested(language, vectors, pictures)
    assert only_other.texts[0] == (SUBJECTS[other][3], SUBJECTS[language][3])
    assert only_other.other_language
    assert not suggested(other, vectors, pictures).other_language


def test_keeps_the_language_of_the_page_without_evidence() -> None:
    """The suggestions change their language only if the model clearly prefers the other language.

    Random vectors, such as a fake server's, are no evidence. A few pictures are not enough evidence.
    """
    random = np.random.default_rng(0)
    vectors = {name: random.normal(size=(66, 16)).astype(np.float32) for name in SUBJECTS}
    pictures = random.normal(size=(40, 16)).astype(np.float32)
    assert understood("zh", vectors, pictures) == "zh"
    assert understood("en", vectors, pictures) == "en"
    clear = np.eye(66, dtype=np.float32)
    assert understood("en", {"zh": clear, "en": shuffled(clear, 0.1)}, clear[:3]) == "en"


@pytest.mark.parametrize(
    ("text", "chinese", "english"),
    [("红色的水果", True, False), ("LED 灯", True, False), ("red fruit", False, True), (" ", False, False)],
)
def test_tells_the_language_of_a_query(text: str, chinese: bool, english: bool) -> None:
    assert (written_in(text, "zh"), written_in(text, "en")) == (chinese, english)


def test_both_languages_have_subjects() -> None:
    assert all(len(set(subjects)) == len(subjects) > 50 for subjects in SUBJECTS.values())
    assert len(SUBJECTS["zh"]) == len(SUBJECTS["en"])


def test_names_hold_no_folder_of_the_server() -> None:
    listed = Picture("0", "/srv/lists/all.txt", "/srv/data/shoes/1.jpg", "1")
    assert shown_name(listed, []) == "1.jpg"
    assert shown_name(listed, [Path("/srv/data")]) == "shoes/1.jpg"
    assert shown_name(Picture("0", "/srv/data", "shoes/1.jpg", "1"), []) == "shoes/1.jpg"


@pytest.mark.parametrize(
    ("page", "pages", "expected"),
    [
        (1, 0, []),
        (1, 1, [1]),
        (1, 6, [1, 2, 3, 0, 6]),
        (3, 6, [1, 2, 3, 4, 5, 6]),
        (9, 20, [1, 0, 7, 8, 9, 10, 11, 0, 20]),
    ],
)
def test_page_numbers_have_gaps(page: int, pages: int, expected: list[int]) -> None:
    assert page_numbers(page, pages) == expected


def test_messages_speak_to_visitors_and_hide_the_server() -> None:
    for words in WORDS.values():
        for error, retry in (
            (StoreError("cannot search x in /srv/search.db"), True),
            (ServerUnavailableError("10.0.0.7:8001 refused"), True),
            (DeadlineExceededError("10.0.0.7:8001"), True),
            (OverloadedError("10.0.0.7:8001"), True),
            (AddressError("10.0.0.7:8001"), True),
            (AccessDeniedError("10.0.0.7:8001"), True),
            (QueryError("/srv"), False),
            (InvalidItemsError("image", (), 1), False),
        ):
            message = message_of(error, words)
            assert message.retry is retry
            assert message.status >= 400
            assert "srv" not in message.text
            assert "10.0.0.7" not in message.text


def test_a_message_about_a_wrong_query_has_a_link_without_the_wrong_part() -> None:
    address = Address(language="en", text="cat", picture="0" * 32, without=("dog",))
    unreadable = message_of(InvalidItemsError("image", (), 1), WORDS["en"], address)
    assert (unreadable.action, "picture=" in unreadable.href) == ("Search by words only", False)
    assert unreadable.choose
    cancelled = message_of(QueryError("the same"), WORDS["en"], address)
    assert (cancelled.action, "without=" in cancelled.href) == ("Remove the unwanted phrase", False)
