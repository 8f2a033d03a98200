"""The options of a load test. The command line derives its parameters from these dataclasses.

This module imports no heavy library, because every start of the command line imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tuwen import InvalidArgumentError
from tuwen_loadtest._slo import Objective, parse_slo
from tuwen_options import Option, check_values, documented

__all__ = ["LoadTestOptions", "PayloadOptions", "RequestKind", "ScenarioName", "Shape"]

RequestKind = Literal["text", "image", "similarity", "bulk"]
ScenarioName = Literal["overload", "restart", "bad-clients"]
Shape = Literal["steady", "ramp", "spike"]

_SECONDS, _QUICK_SECONDS, _SCENARIO_SECONDS, _REPETITIONS = 60.0, 24.0, 180.0, 3


@documented
@dataclass(frozen=True)
class PayloadOptions:
    """The pictures and queries that a load test sends.

    ``worker`` is the number of this process among the processes that share a load, from 0. The processes send the same
    queries, each in another order.
    """

    images: Annotated[
        Path | None,
        Option("Folder with pictures to send; subfolders are searched too. Default: generated photographs."),
    ] = None
    queries: Annotated[
        Path | None,
        Option("UTF-8 file with one query in each line, the most frequent query first. Default: generated queries."),
    ] = None
    # The query of rank r is sent 1 / r ** skew times as often as the first query. Search logs have a skew of about 1.
    skew: Annotated[
        float, Option("How unevenly queries repeat (Zipf exponent). 0: queries hardly ever repeat.", min=0)
    ] = 1.0
    # The queries of a file are the same for every seed, so later repetitions find more texts in the server's cache.
    seed: Annotated[
        int, Option("Seed of the random choices. Tests with equal seeds send the same pictures and queries.")
    ] = 0
    worker: int = 0

    def __post_init__(self) -> None:
        check_values(self)


@documented
@dataclass(frozen=True)
class LoadTestOptions:
    """The options of a load test.

    The load is a rate, a number of callers or a scenario. By default, a ramp of rates searches for the capacity. The
    ramp ends at one and a half times the rate that 32 callers reach.
    """

    rate: Annotated[
        float | None,
        Option("Requests per second, sent at random times. Default: a ramp of rates finds the capacity.", above=0),
    ] = None
    users: Annotated[
        int | None,
        Option("Number of concurrent callers, who wait for each answer. Replaces --rate.", min=1),
    ] = None
    scenario: Annotated[
        ScenarioName | None,
        Option("Fault to inject in the middle third of the test. The load is a share of the capacity."),
    ] = None
    capacity: Annotated[
        float | None,
        Option(
            "Capacity of the server in requests per second, which only scenarios use. Default: it is measured first.",
            above=0,
        ),
    ] = None
    shape: Annotated[
        Shape,
        Option("Shape of the load over time: constant, raised in eight steps, or with a peak in the middle third."),
    ] = "steady"
    quick: Annotated[
        bool, Option("Run one repetition of 24 seconds instead of three of 60, for a first answer within a minute.")
    ] = False
    seconds: Annotated[
        float | None,
        Option(
            "Duration of one repetition in seconds. Default: 60; 24 with --quick; 180 for a scenario.",
            above=0,
            show_default=False,
        ),
    ] = None
    warmup: Annotated[
        float,
        Option("Warm-up in seconds: requests at the beginning of each repetition do not count. 0: all count.", min=0),
    ] = 5.0
    repetitions: Annotated[
        int | None,
        Option("Number of repetitions. Default: 3; 1 with --quick or for a scenario.", min=1, show_default=False),
    ] = None
    kinds: Annotated[
        Sequence[RequestKind],
        Option(
            "Kind of request to send; repeat the option to send several kinds. If bulk is one of several kinds, "
            "one caller sends all bulk requests. Default: text, image and similarity.",
            flags=("--kind",),
        ),
    ] = ()
    objectives: Annotated[
        Sequence[Objective],
        Option(
            "Objectives, separated by commas, such as 'p99<200ms,errors<0.1%'. If an objective is missed, the exit "
            "code is 1. In percentiles, a request without an answer counts as infinitely late.",
            flags=("--slo",),
            parse=parse_slo,
        ),
    ] = ()
    deadline: Annotated[
        float, Option("Deadline of a call in seconds. A call without an answer by then counts as timed out.", above=0)
    ] = 30.0
    payloads: PayloadOptions = field(default_factory=PayloadOptions)

    def __post_init__(self) -> None:
        check_values(self)
        given = [name for name in ("rate", "users", "scenario") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidArgumentError(f"expected only one of rate, users and scenario, got {' and '.join(given)}")
        calm = self.duration / (1 if self.scenario is None else 3)
        if self.warmup >= calm:
            raise InvalidArgumentError(f"warmup: expected less than {calm:g} seconds, got {self.warmup:g}")

    @property
    def duration(self) -> float:
        """The duration of one repetition in seconds, with its warm-up."""
        if self.seconds is not None:
            return self.seconds
        if self.scenario is not None:
            return _SCENARIO_SECONDS
        return _QUICK_SECONDS if self.quick else _SECONDS

    @property
    def times(self) -> int:
        """The number of repetitions."""
        return self.repetitions or (_REPETITIONS if self.scenario is None and not self.quick else 1)
