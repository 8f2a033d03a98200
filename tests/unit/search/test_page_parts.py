"""The parts of the search page: uploads, suggestions, filters, names, page numbers and messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tuwen import DeadlineExceededError, InvalidItemsError, OverloadedError, ServerUnavailableError
from tuwen_search import QueryError, StoreError
from tuwen_search.records import Picture
from tuwen_search.web._messages import message_of
from tuwen_search.web._subjects import SUBJECTS
from tuwen_search.web._suggestions import facets_of, frequent, where_of
from tuwen_search.web._uploads import Upload, Uploads
from tuwen_search.web._view import page_numbers, shown_name
from tuwen_search.web._words import WORDS


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
    assert frequent(["cat", "dog", "car", "tree"], axes, pictures) == ("car", "cat", "tree")


def test_both_languages_have_subjects() -> None:
    assert all(len(set(subjects)) == len(subjects) > 50 for subjects in SUBJECTS.values())


def pictures(**fields: list[object]) -> list[Picture]:
    rows = [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]
    return [Picture(str(number), "s", str(number), "1", metadata=row) for number, row in enumerate(rows)]


def test_filters_offer_fields_with_few_values() -> None:
    found = facets_of(
        pictures(
            category=["shoe", "bag"] * 6,
            year=[2023, 2024] * 6,
            price=[number / 3 for number in range(12)],
            sold=[True, False] * 6,
            name=[f"product {number}" for number in range(12)],
            shop=["one"] * 12,
            tags=[["a"], ["b"]] * 6,
        )
    )
    assert found == {
        "category": {"shoe": "shoe", "bag": "bag"},
        "year": {"2023": 2023, "2024": 2024},
        "price": {},
        "sold": {"True": True, "False": False},
    }


def test_a_filter_is_written_only_if_it_is_offered() -> None:
    facets = facets_of(pictures(category=['a"b', "c"] * 2, sold=[True, False] * 2))
    chosen = [("category", 'a"b'), ("category", "c"), ("sold", "True")]
    expected = '(metadata["category"] == "a\\"b" or metadata["category"] == "c") and (metadata["sold"] == true)'
    assert where_of(chosen, facets) == (expected, True)
    assert where_of([("category", '" or true or "')], facets) == ("", False)
    assert where_of([("secret", "x")], facets) == ("", False)
    numbers = facets_of(pictures(price=[1.5, 2.5, 3.5, 4.5]))
    bounds = '(metadata["price"] >= 2.0) and (metadata["price"] <= 4.0)'
    assert where_of([("price", "≥2"), ("price", "≤4")], numbers) == (bounds, True)
    assert where_of([("price", "≥2 or true")], numbers) == ("", False)
    assert where_of([("category", "≥2")], facets) == ("", False)


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
            (QueryError("/srv"), False),
            (InvalidItemsError("image", (), 1), False),
        ):
            message = message_of(error, words)
            assert message.retry is retry
            assert message.status >= 400
            assert "srv" not in message.text
            assert "10.0.0.7" not in message.text
