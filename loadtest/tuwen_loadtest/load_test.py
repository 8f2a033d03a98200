"""A load test in one call: what `tuwen loadtest` does."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tuwen import InvalidArgumentError
from tuwen_loadtest._connection import Connection
from tuwen_loadtest._curve import curve_of
from tuwen_loadtest._machine import processor, versions
from tuwen_loadtest._payloads import PayloadOptions
from tuwen_loadtest._report import Report, write_report
from tuwen_loadtest._session import KINDS, LoadTestError, Plan, run, served
from tuwen_loadtest._slo import Objective, parse_slo
from tuwen_loadtest._users_over_time import SHAPES
from tuwen_loadtest._verdict import judge

__all__ = [
    "Connection",
    "LoadTestError",
    "LoadTestOptions",
    "PayloadOptions",
    "Report",
    "load_test",
    "parse_slo",
    "write_report",
]

_PROBE_CALLERS = 32
_PROBE_SECONDS = 10.0
_BEYOND = 1.5  # times the capacity: how far a ramp goes
_LIBRARIES = ("tuwen", "locust", "grpcio", "tritonclient", "numpy")


@dataclass(frozen=True)
class LoadTestOptions:
    """The choices of a load test.

    Attributes:
        rate: requests a second, at random times. Without it and without `users` the capacity is looked for, by a ramp
            of rates to one and a half times what 32 callers get.
        users: callers at the same time, instead of a rate.
        shape: of the rate or the users over time.
        seconds: of a repetition; of which the first `warmup` do not count.
        repetitions: how often.
        kinds: what is asked, of ``text``, ``image``, ``similarity`` and ``bulk``; empty: a mix of the first three.
        objectives: what is to be met.
        deadline: of a call, in seconds.
        payloads: what is sent.
    """

    rate: float | None = None
    users: int | None = None
    shape: str = "steady"
    seconds: float = 60.0
    warmup: float = 5.0
    repetitions: int = 3
    kinds: Sequence[str] = ()
    objectives: Sequence[Objective] = ()
    deadline: float = 30.0
    payloads: PayloadOptions = field(default_factory=PayloadOptions)

    def __post_init__(self) -> None:
        if self.rate is not None and self.users is not None:
            raise InvalidArgumentError("a load is a rate or a number of users, not both")
        for name in ("rate", "users", "deadline", "repetitions"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidArgumentError(f"{name} must be more than 0, not {value}")
        if not 0 <= self.warmup < self.seconds:
            raise InvalidArgumentError(f"of {self.seconds:g} seconds {self.warmup:g} cannot be warm-up")
        if self.shape not in SHAPES:
            raise InvalidArgumentError(f"the shape must be one of {', '.join(SHAPES)}, not {self.shape!r}")
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise InvalidArgumentError(f"nothing is called {unknown[0]!r}; ask {', '.join(KINDS)}")


def load_test(target: Connection, options: LoadTestOptions, say: Callable[[str], None] = lambda _: None) -> Report:
    """Ask a server as people would, and report how it answered.

    Args:
        target: where it is; a folder of a repository in place of the address is served for the test.
        options: how it is asked.
        say: is told of each step as it begins.

    Raises:
        LoadTestError: Locust could not run.
        ServeError: the repository cannot be served.
        TuwenError: the server is not there.
    """
    with served(target, say) as (connection, pid):
        with connection.client(options.deadline) as clip:
            card = clip.model_card()
        plan = _plan(connection, options, say)
        finished = []
        for repetition in range(options.repetitions):
            say(f"repetition {repetition + 1} of {options.repetitions}: {options.seconds:g} s, {_load(plan)}")
            # other queries of the same frequencies: a server remembers those of the last repetition
            payloads = replace(plan.payloads, seed=plan.payloads.seed + repetition)
            finished.append(run(replace(plan, payloads=payloads), pid))
    curves = []
    if plan.shape == "ramp" and plan.open_loop:
        curves = [curve_of(one.samples, options.seconds, options.objectives) for one in finished]
    verdicts = [judge(one.samples, options.objectives, warmup=options.warmup) for one in finished]
    return Report(
        f"Load test of {target.url}: {_load(plan)}",
        _machine(),
        card,
        options.objectives,
        list(zip(finished, verdicts, strict=True)),
        curves,
    )


def _plan(connection: Connection, options: LoadTestOptions, say: Callable[[str], None]) -> Plan:
    def plan(*, open_loop: bool, users: float, shape: str, seconds: float) -> Plan:
        return Plan(
            connection, open_loop, math.ceil(users), shape, seconds, options.deadline, options.kinds, options.payloads
        )

    if options.users is not None:
        return plan(open_loop=False, users=options.users, shape=options.shape, seconds=options.seconds)
    if options.rate is not None:
        return plan(open_loop=True, users=options.rate, shape=options.shape, seconds=options.seconds)
    say(f"{_PROBE_CALLERS} callers, to see how much it answers at all")
    probe = run(plan(open_loop=False, users=_PROBE_CALLERS, shape="steady", seconds=_PROBE_SECONDS))
    capacity = judge(probe.samples, (), warmup=_PROBE_SECONDS / 3).summary.throughput
    return plan(open_loop=True, users=_BEYOND * max(1.0, capacity), shape="ramp", seconds=options.seconds)


def _load(plan: Plan) -> str:
    amount = f"{plan.users} requests a second" if plan.open_loop else f"{plan.users} callers"
    return amount if plan.shape == "steady" else f"{plan.shape} to {amount}"


def _machine() -> dict[str, str]:
    return {
        "the load generator's processor": processor(),
        "its cores": str(os.cpu_count()),
        **versions(_LIBRARIES),
    }
