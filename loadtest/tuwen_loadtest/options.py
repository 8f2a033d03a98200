"""The options of a load test. Light to import: the command line derives its parameters from these dataclasses."""

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

    ``worker`` is the number of the process among the processes that share a load. Each sends the same queries in
    another order.
    """

    images: Annotated[
        Path | None,
        Option("Folder of pictures to send, searched with its subfolders. Default: generated photographs."),
    ] = None
    queries: Annotated[
        Path | None,
        Option("UTF-8 file with one query in each line, the most frequent first. Default: generated queries."),
    ] = None
    # Search logs have about 1. The query of rank r is asked 1 / r ** skew as often as the first.
    skew: Annotated[float, Option("How unevenly queries repeat (Zipf exponent); 0 means hardly ever.", min=0)] = 1.0
    # Every seed asks the queries of a file, so later repetitions find more of them in the server's cache.
    seed: Annotated[int, Option("Seed of the random numbers. Equal seeds send the same items.")] = 0
    worker: int = 0

    def __post_init__(self) -> None:
        check_values(self)


@documented
@dataclass(frozen=True)
class LoadTestOptions:
    """The options of a load test.

    A load is a rate, a number of users or a scenario. Without them, the capacity is searched for with a ramp of rates
    up to one and a half times the rate of 32 callers.
    """

    rate: Annotated[
        float | None,
        Option("Requests per second, at random times. Default: a ramp that finds the capacity.", above=0),
    ] = None
    users: Annotated[int | None, Option("Number of concurrent callers, instead of a rate.", min=1)] = None
    scenario: Annotated[
        ScenarioName | None,
        Option("Fault to cause in the middle third of the test, under a load that is a share of the capacity."),
    ] = None
    capacity: Annotated[
        float | None, Option("Capacity in requests per second, for a scenario. Default: it is measured first.", above=0)
    ] = None
    shape: Annotated[Shape, Option("Shape of the rate or of the number of users over time.")] = "steady"
    quick: Annotated[
        bool, Option("A first answer within a minute: one repetition of 24 seconds instead of three of 60.")
    ] = False
    seconds: Annotated[
        float | None,
        Option("Seconds of one repetition. Default: 60, or 180 with a scenario.", above=0, show_default=False),
    ] = None
    warmup: Annotated[float, Option("Seconds at the beginning of each repetition that do not count.", min=0)] = 5.0
    repetitions: Annotated[
        int | None, Option("Number of repetitions. Default: 3; for a scenario 1.", min=1, show_default=False)
    ] = None
    kinds: Annotated[
        Sequence[RequestKind],
        Option(
            "Kind of request. Repeat for more. If bulk runs together with other kinds, it has one caller. "
            "Default: all except bulk.",
            flags=("--kind",),
        ),
    ] = ()
    objectives: Annotated[
        Sequence[Objective],
        Option(
            "Objectives, such as 'p99<200ms,errors<0.1%'; if one is missed, the exit code is 1. Percentiles are over "
            "all requests: a request without an answer counts as infinitely late.",
            flags=("--slo",),
            parse=parse_slo,
        ),
    ] = ()
    deadline: Annotated[float, Option("Maximum duration of a call in seconds.", above=0)] = 30.0
    payloads: PayloadOptions = field(default_factory=PayloadOptions)

    def __post_init__(self) -> None:
        check_values(self)
        given = [name for name in ("rate", "users", "scenario") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidArgumentError(f"expected a rate, a number of users or a scenario, got {' and '.join(given)}")
        calm = self.duration / (1 if self.scenario is None else 3)
        if self.warmup >= calm:
            raise InvalidArgumentError(f"warmup: expected less than {calm:g} seconds, got {self.warmup:g}")

    @property
    def duration(self) -> float:
        """The duration of a repetition in seconds."""
        if self.seconds is not None:
            return self.seconds
        if self.scenario is not None:
            return _SCENARIO_SECONDS
        return _QUICK_SECONDS if self.quick else _SECONDS

    @property
    def times(self) -> int:
        """The number of repetitions."""
        return self.repetitions or (_REPETITIONS if self.scenario is None and not self.quick else 1)
