"""What is hooked into Locust: our options, the gathering of samples from all its processes, and the verdict."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from locust import events
from locust.env import Environment
from locust.runners import WorkerRunner

from tuwen import InvalidArgumentError
from tuwen_loadtest._options import add_options, options_of
from tuwen_loadtest._payloads import payloads_of
from tuwen_loadtest._samples import Sample, write_samples
from tuwen_loadtest._verdict import Finding, judge
from tuwen_loadtest.users import Visitor

__all__ = ["attach"]


def attach() -> None:
    """Once, where the locustfile is read."""
    hooks: Any = events
    hooks.init_command_line_parser.add_listener(_add_options)
    hooks.init.add_listener(_gather)


def _add_options(parser: argparse.ArgumentParser, **_: Any) -> None:
    add_options(parser)


def _check(environment: Environment) -> None:
    """Before anything runs: Locust would only log what a user raises."""
    try:
        payloads_of(options_of(environment).payloads)
    except InvalidArgumentError as error:
        raise SystemExit(f"tuwen: {error}") from error


def _only_visitors(environment: Environment) -> None:
    """Unless others are named: Locust runs every user that it finds."""
    parsed: Any = environment.parsed_options
    if not parsed.user_classes:
        environment.user_classes = [Visitor]


def _gather(environment: Environment, **_: Any) -> None:
    """A worker hands its samples to the master every few seconds, with its statistics."""
    if not isinstance(environment.runner, WorkerRunner):  # a worker is told its options later
        _check(environment)
        _only_visitors(environment)
    samples: list[Sample] = []

    def keep(context: dict[str, Any], **_: Any) -> None:
        samples.append(context["sample"])

    def hand_over(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001 - Locust names it
        data["samples"] = list(samples)
        samples.clear()

    def take_over(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001 - Locust names it
        samples.extend(Sample(*row) for row in data["samples"])

    def conclude(**_: Any) -> None:
        if isinstance(environment.runner, WorkerRunner):
            return
        options = options_of(environment)
        if options.samples:
            write_samples(samples, options.samples)
        verdict = judge(samples, options.objectives, warmup=options.warmup)
        told = [str(Finding(objective.text, met)) for objective, met in verdict.objectives]
        sys.stdout.write("\n".join(["", verdict.text, *told, ""]))
        # Locust's own rule, 1 for any failed request, would forbid an objective that allows some.
        if options.objectives:
            environment.process_exit_code = 1 if verdict.missed else 0

    hooks: Any = environment.events
    hooks.request.add_listener(keep)
    hooks.report_to_master.add_listener(hand_over)
    hooks.worker_report.add_listener(take_over)
    hooks.quitting.add_listener(conclude)
