"""The hooks into Locust: options, the collection of samples from all its processes, and the verdict."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.runners import WorkerRunner

from tuwen import InvalidArgumentError
from tuwen_loadtest._locust_options import add_options, options_of
from tuwen_loadtest._parent import end_with_parent
from tuwen_loadtest._payloads import payloads_of
from tuwen_loadtest._samples import Sample, write_samples
from tuwen_loadtest._verdict import Finding, judge
from tuwen_loadtest.users import BulkEmbedding, BulkIndexing, Visitor

__all__ = ["attach"]

_GRACE = 5.0  # seconds beyond the deadline of a call until it has ended for sure


def attach() -> None:
    """Register the hooks. Called once, when Locust reads the locustfile."""
    hooks: Any = events
    hooks.init_command_line_parser.add_listener(_add_options)
    hooks.init.add_listener(_gather)


def _add_options(parser: argparse.ArgumentParser, **_: Any) -> None:
    add_options(parser)


def _check(environment: Environment) -> None:
    """Check the options before users start, because Locust only logs the errors of users."""
    try:
        payloads_of(options_of(environment).payloads)
    except InvalidArgumentError as error:
        raise SystemExit(f"tuwen: {error}") from error


def _choose_users(environment: Environment) -> None:
    """Run visitors if no user is named, because Locust runs every user that it finds.

    If bulk indexing is the only named user, it is the load itself, so it gets all requested users.
    """
    parsed: Any = environment.parsed_options
    if not parsed.user_classes:
        environment.user_classes = [Visitor]
    elif set(parsed.user_classes) == {BulkIndexing.__name__}:
        environment.user_classes = [BulkEmbedding]


def _wait_for_answers(environment: Environment) -> None:
    """Let requests in flight end within their deadline, if ``--stop-timeout`` does not say otherwise.

    Without this, Locust would end them at once, and the verdict would count them as lost.
    """
    if not environment.stop_timeout:
        environment.stop_timeout = options_of(environment).deadline + _GRACE


def _gather(environment: Environment, **_: Any) -> None:
    """Send the samples of a worker to the master every few seconds, with its statistics."""
    if not isinstance(environment.runner, WorkerRunner):  # a worker is told its options later
        _check(environment)
        _choose_users(environment)
        _wait_for_answers(environment)
        gevent.spawn(end_with_parent, options_of(environment).samples, sleep=gevent.sleep)
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
