"""The description of a scenario."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tuwen_loadtest._phases import Phases
from tuwen_loadtest._target import Site
from tuwen_loadtest._verdict import Finding
from tuwen_loadtest.options import Shape

__all__ = ["Scenario"]


@dataclass(frozen=True)
class Scenario:
    """A fault, and the expectations of a service during it.

    Attributes:
        findings: says of a run and of the capacity, in requests a second, whether the service held.
        trouble: makes it at a site, for a number of seconds or until it is done; is told the capacity, too. None: the
            load itself is the trouble.
        servers: how many it takes; more than one are started here, from a repository.
        shape: of the load over time.
        load: at its most, as a multiple of the capacity.
        attempts: how often a request is tried: once, where refusals are to be seen.
    """

    findings: Callable[[Phases, float], Sequence[Finding]]
    trouble: Callable[[Site, float, float], None] | None = None
    servers: int = 1
    shape: Shape = "steady"
    load: float = 0.5
    attempts: int = 1
