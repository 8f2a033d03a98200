"""A scenario in which all servers behind one name are restarted one after the other, as in a rollout."""

from __future__ import annotations

from collections.abc import Sequence

from tuwen_loadtest._phases import Phases
from tuwen_loadtest._target import Target
from tuwen_loadtest._verdict import Finding
from tuwen_loadtest.scenarios._scenario import Scenario

__all__ = ["RESTART"]


def _restart(target: Target, seconds: float, capacity: float) -> None:  # noqa: ARG001 - it takes as long as it takes
    for server in target.servers:
        server.stop()
        server.start()


def _findings(phases: Phases, capacity: float) -> Sequence[Finding]:  # noqa: ARG001 - whatever it is
    """Check that no request was lost during the restarts."""
    found = phases.trouble
    text = f"requests lost during the restarts: {found.lost} of {found.requests} (allowed: none)"
    return [Finding(text, found.requests > 0 and found.lost == 0)]


RESTART = Scenario(_findings, _restart, servers=2, attempts=3)
"""The restart scenario. The load is half of the capacity, which one server can answer alone. Clients try a request up
to three times, as applications do."""
