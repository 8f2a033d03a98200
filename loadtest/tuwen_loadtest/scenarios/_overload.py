"""A scenario with twice as many requests as the service can answer."""

from __future__ import annotations

from collections.abc import Sequence

from tuwen_loadtest._phases import Phases
from tuwen_loadtest._verdict import Finding
from tuwen_loadtest.scenarios._scenario import Scenario

__all__ = ["OVERLOAD"]

_GOODPUT = 0.9
_RECOVERY = 10.0  # seconds until answers are normal again


def _findings(phases: Phases, capacity: float) -> Sequence[Finding]:
    """Check that the service answers at its capacity during the overload, and that it recovers quickly."""
    share, recovery = phases.trouble.goodput / capacity, phases.recovery
    return [
        Finding(
            f"good answers at twice the capacity: {share:.0%} of the capacity (required: at least {_GOODPUT:.0%})",
            share >= _GOODPUT,
        ),
        Finding(
            f"normal again {recovery:.0f} s after the overload (allowed: at most {_RECOVERY:.0f} s)",
            recovery <= _RECOVERY,
        ),
    ]


OVERLOAD = Scenario(_findings, shape="spike", load=2.0)
"""The overload scenario: half of the capacity, then twice the capacity, then half of the capacity again."""
