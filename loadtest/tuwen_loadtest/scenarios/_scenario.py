"""The dataclass that describes a scenario."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tuwen_loadtest._phases import Phases
from tuwen_loadtest._target import Target
from tuwen_loadtest._verdict import Finding
from tuwen_loadtest.options import Shape

__all__ = ["Scenario"]


@dataclass(frozen=True)
class Scenario:
    """A fault, and the expectations of a service during it.

    Attributes:
        findings: a function that checks the phases of a run. Its second argument is the capacity in requests per
            second.
        trouble: a function that injects the fault. Its arguments are the target, the duration in seconds, and the
            capacity in requests per second. None: the load itself is the fault.
        servers: the number of servers; more than 1 only for the folder of a repository.
        shape: the shape of the load over time.
        load: the maximum load, as a multiple of the capacity.
        attempts: the maximum number of attempts of a request; 1 if refusals are to be counted.
    """

    findings: Callable[[Phases, float], Sequence[Finding]]
    trouble: Callable[[Target, float, float], None] | None = None
    servers: int = 1
    shape: Shape = "steady"
    load: float = 0.5
    attempts: int = 1
