"""The address of the search page contains all choices of a visitor. Invalid parts of an address are dropped."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuwen_search.web._address import LONGEST_TEXT, Address, phrases

ID = "0123456789abcdef" * 2
EVERYTHING = Address(
    language="en",
    text="红色 & 绿色=?#",
    without=("人", "车"),
    picture=ID,
    like="f" * 32,
    weight=0.3,
    min_score=0.25,
    filters=(("category", "鞋 & 包"), ("a b", "1"), ("price", "≥9.5"), ("price", "≤20")),
    page=3,
    open="last",
    labels="猫, 狗",
)


def read(href: str) -> Address:
    return Address.parse(parse_qsl(urlsplit(href).query))


def test_an_address_is_read_as_it_was_written() -> None:
    assert read(EVERYTHING.href(labels=EVERYTHING.labels)) == EVERYTHING


@given(st.lists(st.tuples(st.text(), st.text())))
def test_any_parameters_are_read(pairs: list[tuple[str, str]]) -> None:
    address = Address.parse(pairs)
    assert read(address.href(labels=address.labels)) == address


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("picture", "../../etc/passwd"),
        ("like", ID.upper()),
        ("open", "x"),
        ("weight", "nan"),
        ("weight", "2"),
        ("score", "inf"),
        ("page", "0"),
        ("page", "-1"),
        ("page", "1e9"),
        ("page", "99999"),
        ("language", "fr"),
        ("f.", "x"),
        ("min.price", "cheap"),
        ("max.price", "nan"),
    ],
)
def test_an_invalid_value_counts_as_absent(name: str, value: str) -> None:
    assert Address.parse([(name, value)]) == Address()


def test_another_search_begins_at_its_first_page() -> None:
    changed = read(EVERYTHING.href(text="猫"))
    assert (changed.page, changed.open, changed.labels) == (1, "", "")
    assert changed.filters == EVERYTHING.filters


def test_another_page_closes_the_picture_and_another_language_keeps_it() -> None:
    assert read(EVERYTHING.href(page=4)).open == ""
    assert read(EVERYTHING.href(language="zh")).open == "last"


def test_a_part_that_is_removed_takes_its_settings_along() -> None:
    mixed = Address(text="猫", picture=ID, weight=0.9, open=ID, labels="猫, 狗")
    assert read(mixed.href(picture="")) == Address(text="猫")
    assert read(mixed.href(text="")) == Address(picture=ID)
    assert read(mixed.href(without=("车",))).weight == 0.9
    assert read(mixed.href(open="")).labels == ""


def test_a_suggestion_leaves_everything_else_behind() -> None:
    assert read(EVERYTHING.asking("猫").href()) == Address(language="en", text="猫")


def test_phrases_are_separated_by_the_commas_of_both_languages() -> None:
    assert phrases(["人，车; 树", " 人 ", ""]) == ("人", "车", "树")
    assert len(phrases([",".join(map(str, range(99)))])) == 10


def test_a_long_text_is_cut() -> None:
    assert len(Address.parse([("q", "长" * 9999)]).text) == LONGEST_TEXT
