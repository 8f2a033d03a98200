"""Options that are described beside a dataclass's fields are validated, and listed in the dataclass's docstring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from tuwen import InvalidArgumentError, TuwenError
from tuwen_options import REQUIRED, Option, check_values, documented, option_fields


@documented
@dataclass(frozen=True)
class Sample:
    """The options of a sample command.

    The list of options follows this second paragraph.
    """

    name: Annotated[str, Option("Name of the product.")]
    limit: Annotated[int, Option("Maximum number of items.", min=1, max=1024)] = 10
    least: Annotated[int | None, Option("Number of points, at least 3.", min=3)] = None
    seconds: Annotated[float, Option("Duration in seconds.", above=0)] = 5.0
    decay: Annotated[float, Option("Decay in each step.", min=0, below=1)] = 0.5
    weight: Annotated[float, Option("Weight, any finite number.")] = 0.0
    colour: Annotated[Literal["red", "blue"] | None, Option("Colour of the product.")] = None
    kinds: Annotated[Sequence[Literal["text", "image"]], Option("Kinds of items to count.")] = ()
    internal: int = -1

    def __post_init__(self) -> None:
        check_values(self)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"limit": 0}, "limit: expected a number from 1 to 1,024, got 0"),
        ({"limit": 1025}, "limit: expected a number from 1 to 1,024, got 1025"),
        ({"least": 2}, "least: expected a number of at least 3, got 2"),
        ({"seconds": 0}, "seconds: expected a finite number above 0, got 0"),
        ({"seconds": float("inf")}, "seconds: expected a finite number above 0, got inf"),
        ({"seconds": float("nan")}, "seconds: expected a finite number above 0, got nan"),
        ({"decay": 1}, "decay: expected a finite number of at least 0 and below 1, got 1"),
        ({"decay": -0.1}, "decay: expected a finite number of at least 0 and below 1, got -0.1"),
        ({"weight": float("-inf")}, "weight: expected a finite number, got -inf"),
        ({"colour": "green"}, "colour: expected one of red, blue, got 'green'"),
        ({"kinds": ["text", "video"]}, "kinds: expected one of text, image, got 'video'"),
    ],
)
def test_rejects_a_value_and_names_its_field(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        Sample("x", **values)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    "values",
    [{"limit": 1}, {"limit": 1024}, {"least": 3}, {"least": None}, {"seconds": 1e-9}, {"decay": 0}, {"internal": -5}],
)
def test_accepts_the_bounds_themselves(values: dict[str, Any]) -> None:
    assert Sample("x", **values)


def test_raises_the_error_that_the_dataclass_asks_for() -> None:
    sample = Sample("x")
    object.__setattr__(sample, "limit", 0)
    with pytest.raises(TuwenError) as refused:
        check_values(sample, TuwenError)
    assert type(refused.value) is TuwenError


def test_the_docstring_lists_every_option_after_the_summary() -> None:
    lines = (Sample.__doc__ or "").splitlines()
    assert lines[0] == "The options of a sample command."
    attributes = lines.index("Attributes:")
    assert lines[attributes + 1 : attributes + 3] == [
        "    name: Name of the product.",
        "    limit: Maximum number of items.",
    ]
    assert not any("internal" in line for line in lines)


def test_fields_carry_types_and_defaults() -> None:
    found = {field.name: field for field in option_fields(Sample)}
    assert "internal" not in found
    assert found["name"].default is REQUIRED
    assert (found["limit"].type, found["limit"].default) == (int, 10)
    assert found["colour"].choices == ("red", "blue")
    assert found["kinds"].item_type == Literal["text", "image"]
    assert found["limit"].item_type is None
