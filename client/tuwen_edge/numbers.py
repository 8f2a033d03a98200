"""Whole numbers in the JSON of requests."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

__all__ = ["Positive", "whole"]


def whole(value: object) -> object:
    """Return a number without a fraction as an int. JSON does not distinguish 2.0 from 2."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Positive = Annotated[int, Field(ge=1), BeforeValidator(whole)]
"""A whole number of at least 1."""
