"""Service level objectives, such as ``p99<200ms,errors<0.1%``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tuwen import InvalidArgumentError

__all__ = ["METRICS", "Objective", "good_seconds", "names_good_answers", "parse_slo"]

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SECONDS = {"ms": 1e-3, "s": 1.0}
_SHARES = {"%": 1e-2, "": 1.0}
_RATES = {"/s": 1.0, "": 1.0}
METRICS: Mapping[str, Mapping[str, float]] = {
    **dict.fromkeys(("p50", "p90", "p95", "p99", "p99.9", "max"), _SECONDS),
    **dict.fromkeys(("errors", "refused", "timeouts", "failures"), _SHARES),
    **dict.fromkeys(("throughput", "goodput"), _RATES),
}
"""The units of each metric that an objective can bound. A unit has its factor to seconds, shares or rates."""
_OF_NEARLY_ALL = ("p95", "p99", "p99.9", "max")
_OBJECTIVE = re.compile(r"\s*([a-z0-9.]+)\s*(<=|>=|<|>)\s*([0-9.]+)\s*([a-z%/]*)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Objective:
    """A bound on one metric.

    Attributes:
        metric: one of `METRICS`.
        comparison: ``<``, ``<=``, ``>`` or ``>=``.
        bound: the bound in seconds, in requests per second, or as a share of the requests.
        text: the objective as the user wrote it, such as ``p99<200ms``.
    """

    metric: str
    comparison: str
    bound: float
    text: str

    def is_met(self, value: float) -> bool:
        """Return whether a value is within the bound. A value that was not measured (nan) is not within any bound."""
        return _OPERATORS[self.comparison](value, self.bound)


def parse_slo(text: str) -> Sequence[Objective]:
    """Return the objectives in a text, separated by commas.

    A share is written with a percent sign or as a number from 0 to 1: ``errors<0.1%`` is one request in a thousand,
    ``errors<0.1`` is one in ten.

    Raises:
        InvalidArgumentError: an objective is invalid. The message names the objective and the known metrics.
    """
    return [_parse(part) for part in text.split(",")]


def good_seconds(objectives: Sequence[Objective]) -> float:
    """Return the latency of a good answer in seconds: the lowest upper bound on p95 or a higher percentile.

    The result is infinite without such an objective. An objective on p50 or p90 bounds no single answer: a service that
    meets ``p50<100ms`` may take longer for half of its answers.
    """
    bounds = [one.bound for one in objectives if one.metric in _OF_NEARLY_ALL and one.comparison.startswith("<")]
    return min(bounds, default=math.inf)


def names_good_answers(objectives: Sequence[Objective]) -> bool:
    """Return whether an objective bounds the latency of good answers, or their rate (goodput)."""
    return math.isfinite(good_seconds(objectives)) or any(one.metric == "goodput" for one in objectives)


def _parse(part: str) -> Objective:
    match = _OBJECTIVE.fullmatch(part)
    if not match:
        raise InvalidArgumentError(
            f"expected an objective such as p99<200ms, errors<0.1% or goodput>50/s, got {part!r}"
        )
    metric, comparison, number, unit = match.groups()
    units = METRICS.get(metric)
    if units is None:
        raise InvalidArgumentError(f"{part!r}: expected a metric, got {metric!r}; use one of {', '.join(METRICS)}")
    if unit not in units:
        known = " or ".join(name or "no unit" for name in units)
        raise InvalidArgumentError(f"{part!r}: {metric}: expected the unit {known}, got {unit or 'none'}")
    try:
        bound = float(number) * units[unit]
    except ValueError:
        raise InvalidArgumentError(f"{part!r}: expected a number, got {number}") from None
    if units is _SHARES and bound > 1:
        raise InvalidArgumentError(
            f"{part!r}: expected a share from 0 to 1 or a percentage up to 100%, got {number}{unit}; "
            f"for {number} percent write {metric}{comparison}{number}%"
        )
    return Objective(metric, comparison, bound, part.strip())
