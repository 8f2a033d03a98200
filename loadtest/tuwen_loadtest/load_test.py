"""A complete load test in one function, which `tuwen loadtest` calls."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from tuwen_loadtest._answer import Answer, answer_of_curves, answer_of_runs, answer_of_scenario
from tuwen_loadtest._connection import Connection
from tuwen_loadtest._curve import Curve, curve_of
from tuwen_loadtest._doubts import Doubt, doubts_of
from tuwen_loadtest._machine import processor, versions
from tuwen_loadtest._model_load import STEP_NAMES, ModelLoad
from tuwen_loadtest._phases import Phases, phases_of
from tuwen_loadtest._report import Report, write_report
from tuwen_loadtest._session import LoadTestError, Plan, Run, run
from tuwen_loadtest._slo import good_seconds, parse_slo
from tuwen_loadtest._target import Target, served
from tuwen_loadtest._verdict import Finding, Verdict, judge
from tuwen_loadtest.options import LoadTestOptions, PayloadOptions
from tuwen_loadtest.scenarios import SCENARIOS, Scenario

__all__ = [
    "Answer",
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
_PROBE_SECONDS, _RAMP_SECONDS = 10.0, 64.0
_BEYOND = 1.5  # the highest rate of a ramp, as a multiple of the rate that the first callers reached
_LIBRARIES = ("tuwen", "locust", "grpcio", "tritonclient", "numpy")


def load_test(
    target: Connection,
    options: LoadTestOptions,
    say: Callable[[str], None] = lambda _: None,
    *,
    metrics: str | None = None,
    live: Callable[[str], None] = lambda _: None,
) -> Report:
    """Send requests like those of users to a server, and return a report about the answers.

    Args:
        target: the address of the server, or the folder of a repository to serve for the test.
        options: the options of the load test.
        say: a function that is called with a sentence when a step begins.
        metrics: the address of the server's Prometheus metrics; None: only metrics of servers that
            the test starts are read.
        live: a function that is called every second with a line about the state of the test.

    Raises:
        LoadTestError: Locust could not run.
        InvalidArgumentError: the scenario needs the folder of a repository, or `metrics` is not a web address.
        ServeError: the repository cannot be served.
        TuwenError: the server does not respond.
    """
    scenario = SCENARIOS[options.scenario] if options.scenario else None
    with served(target, say, count=scenario.servers if scenario else 1, metrics=metrics) as service:
        test = _Test(service, options, say, live)
        return test.with_trouble(scenario) if scenario else test.without()


@dataclass(frozen=True)
class _Test:
    target: Target
    options: LoadTestOptions
    say: Callable[[str], None]
    live: Callable[[str], None]
    seeds: Iterator[int] = field(default_factory=itertools.count)

    def without(self) -> Report:
        plan, options = self._wanted(), self.options
        runs = self._repeat(plan)
        doubts = self._doubts(runs)
        if plan.shape == "ramp":
            callers = None if plan.open_loop else plan.users
            curves = [curve_of(one.samples, plan.seconds, options.objectives, callers=callers) for one, _ in runs]
            # An objective is met if the first step of every ramp meets it, whatever the other objectives are.
            lowest = [curve.steps[0] for curve in curves]
            findings = [
                Finding(one.text, all(one.is_met(step.metric(one.metric)) for step in lowest))
                for one in options.objectives
            ]
            answer = answer_of_curves(curves, options.objectives, [one for one, _ in runs], doubts)
            return self._report(_load(plan), answer, runs, findings, curves=curves)
        missed = {one.text for _, verdict in runs for one in verdict.missed}
        findings = [Finding(one.text, one.text not in missed) for one in options.objectives]
        answer = answer_of_runs(runs, options.objectives, doubts)
        return self._report(_load(plan), answer, runs, findings)

    def with_trouble(self, scenario: Scenario) -> Report:
        options = self.options
        capacity = options.capacity or self._capacity()
        load = _whole(scenario.load * capacity)
        plan = replace(self._plan(), users=load, shape=scenario.shape, attempts=scenario.attempts)
        trouble = partial(scenario.trouble, self.target, options.duration / 3, capacity) if scenario.trouble else None
        runs = self._repeat(plan, trouble)
        phases = [self._phases_of_run(one) for one, _ in runs]
        findings = [finding for one in phases for finding in scenario.findings(one, capacity)]
        for of_run in phases:
            met = [(one.text, one.is_met(of_run.after.metric(one.metric))) for one in options.objectives]
            findings += [Finding(f"{text} afterwards", good) for text, good in met]
        title = f"{options.scenario} at a capacity of {capacity:.1f} requests per second"
        answer = answer_of_scenario(options.scenario or "", findings)
        return self._report(title, answer, runs, findings, phases=phases)

    def _plan(self) -> Plan:
        options = self.options
        return Plan(
            self.target.connection,
            open_loop=True,
            users=1,
            shape=options.shape,
            seconds=options.duration,
            deadline=options.deadline,
            kinds=options.kinds,
            payloads=options.payloads,
        )

    def _wanted(self) -> Plan:
        """Return the load that the options describe. Without a rate or a number of callers, it is a ramp of rates."""
        if self.options.users is not None:
            return replace(self._plan(), open_loop=False, users=self.options.users)
        if self.options.rate is not None:
            return replace(self._plan(), users=_whole(self.options.rate))
        return replace(self._plan(), users=self._ramp_to(), shape="ramp")

    def _capacity(self) -> float:
        """Return the capacity in requests per second, measured in a short ramp with the test's kinds of requests."""
        ramp = replace(self._plan(), users=self._ramp_to(), shape="ramp", seconds=_RAMP_SECONDS)
        self.say(f"{_RAMP_SECONDS:g} s, {_load(ramp)}, to find the capacity")
        capacity = curve_of(self._run(ramp).samples, _RAMP_SECONDS, ()).capacity
        self.say(f"the server answers {capacity:.1f} requests per second")
        return capacity

    def _ramp_to(self) -> int:
        self.say(f"{_PROBE_SECONDS:g} s, {_PROBE_CALLERS} concurrent callers, to find the range of rates")
        callers = replace(self._plan(), open_loop=False, users=_PROBE_CALLERS, shape="steady", seconds=_PROBE_SECONDS)
        probe = self._run(callers)
        found = judge(probe.samples, (), warmup=_PROBE_SECONDS / 3)
        self.say(f"first look: {answer_of_runs([(probe, found)], (), ()).sentence}")
        return _whole(_BEYOND * found.summary.throughput)

    def _repeat(self, plan: Plan, trouble: Callable[[], None] | None = None) -> list[tuple[Run, Verdict]]:
        """Run all repetitions of a load. Return the measurements and the verdict of each repetition."""
        options, times, runs = self.options, self.options.times, []
        for repetition in range(times):
            self.say(f"repetition {repetition + 1} of {times}: {plan.seconds:g} s, {_load(plan)}")
            one = self._run(plan, trouble)
            runs.append((one, judge(one.samples, options.objectives, warmup=options.warmup)))
        return runs

    def _run(self, plan: Plan, trouble: Callable[[], None] | None = None) -> Run:
        """Run a load with new queries, because the server's cache holds the queries of the previous run."""
        payloads = replace(plan.payloads, seed=plan.payloads.seed + next(self.seeds))
        begun = time.monotonic()

        def show(load: ModelLoad) -> None:
            elapsed = min(time.monotonic() - begun, plan.seconds)
            step, share = max(load.busy.items(), key=lambda item: item[1], default=("", 0.0))
            busy = f", {STEP_NAMES[step]} busy {share * 100:.0f} %" if share else ""
            self.live(f"{elapsed:.0f} of {plan.seconds:g} s: {load.answered:.0f} requests/s answered{busy}")

        return run(replace(plan, payloads=payloads), self.target, trouble, live=show)

    def _phases_of_run(self, one: Run) -> Phases:
        first, seconds = min(sample.due for sample in one.samples), self.options.duration
        trouble = one.trouble or (first + seconds / 3, first + 2 * seconds / 3)
        good = good_seconds(self.options.objectives)
        return phases_of(one.samples, trouble, warmup=self.options.warmup, good_seconds=good)

    def _report(
        self,
        title: str,
        answer: Answer,
        runs: Sequence[tuple[Run, Verdict]],
        findings: Sequence[Finding],
        *,
        curves: Sequence[Curve] = (),
        phases: Sequence[Phases] = (),
    ) -> Report:
        with self.target.connection.client(self.options.deadline) as clip:
            card = clip.model_card()
        title = f"{self.target.name}: {title}"
        doubts = [doubt.text for doubt in self._doubts(runs)]
        return Report(title, answer, _machine(), card, findings, doubts, runs, curves, phases)

    def _doubts(self, runs: Sequence[tuple[Run, Verdict]]) -> Sequence[Doubt]:
        return doubts_of(runs, shared=self.target.on_this_machine)


def _whole(rate: float) -> int:
    return max(1, math.ceil(rate))


def _load(plan: Plan) -> str:
    amount = f"{plan.users} requests per second" if plan.open_loop else f"{plan.users} concurrent callers"
    return amount if plan.shape == "steady" else f"{plan.shape} to {amount}"


def _machine() -> dict[str, str]:
    return {
        "processor of the load generator's machine": processor(),
        "cores of the load generator's machine": str(os.cpu_count()),
        **versions(_LIBRARIES),
    }
