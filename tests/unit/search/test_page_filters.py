"""The filters of the search page: which fields are offered, their counts and ranges, and the expression for Milvus."""

from __future__ import annotations

from tuwen_search.web._filters import FilterTable


def table(total: int | None = None, **fields: list[object]) -> FilterTable:
    rows = [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]
    return FilterTable(rows, len(rows) if total is None else total)


def counts(found: FilterTable, *filters: tuple[str, str]) -> dict[str, dict[str, int]]:
    return {facet.field: {choice.text: choice.count for choice in facet.choices} for facet in found.facets(filters)}


def test_fields_with_few_values_are_choices_and_fields_of_numbers_are_ranges() -> None:
    found = table(
        category=["shoe", "bag"] * 6,
        year=[2023, 2024] * 6,
        price=[number / 3 for number in range(12)],
        sold=[True, False] * 6,
        name=[f"product {number}" for number in range(12)],
        shop=["one"] * 12,
        tags=[["a"], ["b"]] * 6,
    )
    assert counts(found) == {
        "category": {"shoe": 6, "bag": 6},
        "year": {"2023": 6, "2024": 6},
        "price": {},
        "sold": {"True": 6, "False": 6},
    }
    [price] = [facet for facet in found.facets([]) if facet.field == "price"]
    assert (price.smallest, price.largest) == (0, 11 / 3)


def test_counts_and_ranges_follow_the_filters_of_the_other_fields() -> None:
    found = table(
        category=["shoe", "shoe", "shoe", "bag", "bag", "hat"],
        colour=["red", "red", "blue", "blue", "blue", "red"],
        price=[1.5, 2, 3, 4, 50.25, None],
    )
    red = ("colour", "red")
    assert counts(found, red)["category"] == {"shoe": 2, "bag": 0, "hat": 1}
    assert counts(found, red)["colour"] == {"red": 3, "blue": 3}  # a second colour would add these pictures
    both = counts(found, red, ("colour", "blue"), ("category", "bag"))
    assert both["category"] == {"shoe": 3, "bag": 2, "hat": 1}
    assert both["colour"] == {"red": 0, "blue": 2}
    assert counts(found, ("price", "≥2"), ("price", "≤4"))["category"] == {"shoe": 2, "bag": 1, "hat": 0}
    ranges = {facet.field: (facet.smallest, facet.largest) for facet in found.facets([("category", "bag")])}
    assert ranges["price"] == (4, 50.25)
    [*_, nothing] = found.facets([("category", "hat")])
    assert (nothing.field, nothing.smallest) == ("price", None)
    assert counts(found, ("secret", "x")) == counts(found)


def test_counts_of_a_sample_are_estimates_with_two_digits() -> None:
    found = table(10_000, category=["shoe"] * 30 + ["bag"] * 40 + ["hat"])
    assert found.estimated
    assert counts(found)["category"] == {"bag": 5600, "shoe": 4200, "hat": 140}
    assert not table(category=["shoe", "bag"]).estimated


def test_a_filter_is_written_only_if_it_is_offered() -> None:
    found = table(category=['a"b', "c"] * 2, sold=[True, False] * 2)
    chosen = [("category", 'a"b'), ("category", "c"), ("sold", "True")]
    expected = '(metadata["category"] == "a\\"b" or metadata["category"] == "c") and (metadata["sold"] == true)'
    assert found.where(chosen) == (expected, True)
    assert found.where([("category", '" or true or "')]) == ("", False)
    assert found.where([("secret", "x")]) == ("", False)
    numbers = table(price=[1.5, 2.5, 3.5, 4.5])
    bounds = '(metadata["price"] >= 2.0) and (metadata["price"] <= 4.0)'
    assert numbers.where([("price", "≥2"), ("price", "≤4")]) == (bounds, True)
    assert numbers.where([("price", "≥2 or true")]) == ("", False)
    assert found.where([("category", "≥2")]) == ("", False)
