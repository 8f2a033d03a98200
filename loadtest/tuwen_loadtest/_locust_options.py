"""The options that this package adds to Locust's command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from locust.env import Environment

from tuwen import InvalidArgumentError
from tuwen_loadtest._connection import Connection
from tuwen_loadtest._slo import Objective, parse_slo
from tuwen_loadtest.options import LoadTestOptions, PayloadOptions, Shape
from tuwen_options import OptionField, option_fields

__all__ = ["LoadOptions", "add_options", "options_of"]

_URL = "localhost:8001"
_SHARED = ("images", "queries", "skew", "seed", "shape", "objectives", "deadline", "warmup")


@dataclass(frozen=True)
class LoadOptions:
    """The options of a load test.

    Attributes:
        connection: the address and the credentials of the server.
        open_loop: whether requests come at random times (Poisson) and do not wait for answers.
        shape: the shape of the load over time.
        deadline: the deadline of a call in seconds.
        attempts: the maximum number of attempts of a call.
        payloads: the options of the pictures and queries to send.
        samples: the ``.npz`` file into which all samples are written; None: the samples are not written.
        objectives: the objectives that decide the exit code.
        warmup: the seconds at the beginning of the run whose requests do not count.
    """

    connection: Connection
    open_loop: bool
    shape: Shape
    deadline: float
    attempts: int
    payloads: PayloadOptions
    samples: Path | None
    objectives: Sequence[Objective]
    warmup: float

    def __post_init__(self) -> None:
        if not 0 < self.deadline < inf:
            raise InvalidArgumentError(f"deadline: expected a finite number of seconds above 0, got {self.deadline}")
        if not 0 <= self.warmup < inf:
            raise InvalidArgumentError(f"warmup: expected a finite number of seconds of at least 0, got {self.warmup}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a load test to Locust's command line. Locust's web page shows these options too."""
    group: Any = parser.add_argument_group("tuwen")
    group.add_argument(
        "--arrivals",
        choices=("closed", "poisson"),
        default="closed",
        help="when a user sends the next request. closed: after the answer to the previous request. poisson: at random "
        "times, once per second on average, without waiting for answers (default: closed)",
    )
    for field in (*option_fields(PayloadOptions), *option_fields(LoadTestOptions)):
        if field.name in _SHARED:
            _add(group, field)
    group.add_argument(
        "--attempts", type=int, default=1, help="maximum number of attempts of a request (default: 1, no retries)"
    )
    group.add_argument(
        "--samples", help="write all samples into this .npz file (default: samples are not written)", metavar="FILE"
    )


def _add(group: Any, field: OptionField) -> None:
    """Add an option of `tuwen loadtest` to Locust's command line, with the default and the help of `tuwen loadtest`."""
    settings: dict[str, Any] = {"choices": field.choices} if field.choices else {"metavar": field.name.upper()}
    if isinstance(field.default, int | float):
        settings["type"] = type(field.default)
    flags = field.option.flags or (f"--{field.name}",)
    default = None if field.item_type is not None else field.default
    group.add_argument(*flags, default=default, help=field.option.help.replace("%", "%%"), **settings)


def options_of(environment: Environment) -> LoadOptions:
    """Return the options of the next run. Users of Locust's web page can change options between two runs.

    Raises:
        InvalidArgumentError: an option has an invalid value.
    """
    parsed: Any = environment.parsed_options
    # If two workers sent equal texts in the same order, the server's cache would answer the second worker.
    worker = max(0, getattr(environment.runner, "worker_index", 0))
    return LoadOptions(
        connection=Connection.from_environment(environment.host or _URL),
        open_loop=parsed.arrivals == "poisson",
        shape=parsed.shape,
        deadline=parsed.deadline,
        attempts=parsed.attempts,
        payloads=PayloadOptions(_path(parsed.images), _path(parsed.queries), parsed.skew, parsed.seed, worker),
        samples=_path(parsed.samples),
        objectives=parse_slo(parsed.slo) if parsed.slo else (),
        warmup=parsed.warmup,
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
