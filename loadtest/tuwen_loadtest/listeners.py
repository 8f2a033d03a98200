"""The functions that Locust calls: they add options, collect the samples of all processes, and print the verdict."""

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

_GRACE = 5.0  # seconds after its deadline, within which every call has ended


def attach() -> None:
    """Register the functions with Locust. The locustfile calls `attach` once."""
    hooks: Any = events
    hooks.init_command_line_parser.add_listener(_add_options)
    hooks.init.add_listener(_gather)


def _add_options(parser: argparse.ArgumentParser, **_: Any) -> None:
    add_options(parser)


def _check(environment: Environment) -> None:
    """Exit with a message if an option is invalid. Locust would only log the error of each user."""
    try:
        payloads_of(options_of(environment).payloads)
    except InvalidArgumentError as error:
        raise SystemExit(f"tuwen: {error}") from error


def _choose_users(environment: Environment) -> None:
    """Choose the classes of users that run. If the command line names no class, only `Visitor` runs.

    Without this choice, Locust would run every class of the locustfile. If `BulkIndexing` is the only named class, all
    users of the run embed batches (`BulkEmbedding`).
    """
    parsed: Any = environment.parsed_options
    if not parsed.user_classes:
        environment.user_classes = [Visitor]
    elif set(parsed.user_classes) == {BulkIndexing.__name__}:
        environment.user_classes = [BulkEmbedding]


def _wait_for_answers(environment: Environment) -> None:
    """Let Locust wait at the end until the deadline of all requests in flight, unless ``--stop-timeout`` is given.

    Without this wait, Locust would end the requests at once, and the verdict would count them as lost.
    """
    if not environment.stop_timeout:
        environment.stop_timeout = options_of(environment).deadline + _GRACE


def _gather(environment: Environment, **_: Any) -> None:
    """Register the functions that collect samples. A worker sends its samples to the master every few seconds."""
    if not isinstance(environment.runner, WorkerRunner):  # a worker gets its options from the master later
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
        # By default, Locust exits with 1 after any failed request. An objective may allow some failures.
        if options.objectives:
            environment.process_exit_code = 1 if verdict.missed else 0

    hooks: Any = environment.events
    hooks.request.add_listener(keep)
    hooks.report_to_master.add_listener(hand_over)
    hooks.worker_report.add_listener(take_over)
    hooks.quitting.add_listener(conclude)
