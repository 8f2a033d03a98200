"""`tuwen loadtest`: what a deployment holds, and whether that is what was promised."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tuwen_cli.options import JsonOption, needs_extra, settings

if TYPE_CHECKING:
    from tuwen_loadtest.load_test import Report

__all__ = ["loadtest"]


def loadtest(
    target: Annotated[
        str,
        typer.Argument(
            help="host:port of the server's gRPC endpoint, or a folder that `tuwen build` made, to serve it."
        ),
    ] = "localhost:8001",
    rate: Annotated[
        float | None,
        typer.Option(help="Requests a second, at random times. Default: a ramp, to find what it holds."),
    ] = None,
    users: Annotated[int | None, typer.Option(help="Callers at the same time, instead of a rate.")] = None,
    scenario: Annotated[
        str | None,
        typer.Option(
            help="Trouble in the middle of the test, after its capacity was found: overload, restart or bad-clients."
        ),
    ] = None,
    capacity: Annotated[
        float | None, typer.Option(help="Requests a second, for a scenario. Default: it is looked for.")
    ] = None,
    shape: Annotated[str, typer.Option(help="steady, ramp or spike.")] = "steady",
    seconds: Annotated[
        float | None, typer.Option(help="Of a repetition. Default: 60; of a scenario: 180.", show_default=False)
    ] = None,
    warmup: Annotated[float, typer.Option(help="Seconds of it that do not count.")] = 5.0,
    repetitions: Annotated[
        int | None, typer.Option(help="How often. Default: 3; a scenario: once.", show_default=False)
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="text, image, similarity or bulk; repeat for more. Beside others, bulk is one caller. "
            "Default: all but bulk."
        ),
    ] = None,
    slo: Annotated[
        str | None,
        typer.Option(
            help="Objectives, such as 'p99<200ms,errors<0.1%'; missed ones make the exit code 1. Percentiles are over "
            "all requests: one without an answer is infinitely late."
        ),
    ] = None,
    deadline: Annotated[float, typer.Option(help="Seconds that a call may take.")] = 30.0,
    images: Annotated[Path | None, typer.Option(help="A folder of pictures to send. Default: made ones.")] = None,
    queries: Annotated[
        Path | None, typer.Option(help="A file of queries to send, the most frequent first. Default: made ones.")
    ] = None,
    skew: Annotated[float, typer.Option(help="Of the queries: Zipf's exponent. 0: all alike.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Equal seeds send the same things.")] = 0,
    metrics: Annotated[
        str | None,
        typer.Option(help="The server's metrics, such as http://host:8002/metrics, for what its machine and GPUs do."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for report.html and report.json.")] = Path(
        "loadtest-report"
    ),
    as_json: JsonOption = False,
) -> None:
    """Ask a server as people would, with Locust, and report what it holds.

    Latencies count from the moment when a request was due, so that a stall is felt by all that came meanwhile.
    """
    with needs_extra("loadtest"):
        from tuwen_loadtest.load_test import (
            Connection,
            LoadTestOptions,
            PayloadOptions,
            load_test,
            parse_slo,
            write_report,
        )
    options = LoadTestOptions(
        rate=rate,
        users=users,
        scenario=scenario,
        capacity=capacity,
        shape=shape,
        seconds=seconds,
        warmup=warmup,
        repetitions=repetitions,
        kinds=kind or (),
        objectives=parse_slo(slo) if slo else (),
        deadline=deadline,
        payloads=PayloadOptions(images, queries, skew, seed),
    )
    console = Console(stderr=True)

    def say(step: str) -> None:
        console.print(step, highlight=False, markup=False)

    report = load_test(Connection(target, *settings()), options, say, metrics=metrics)
    write_report(report, output)
    typer.echo((output / "report.json").read_text(encoding="utf-8") if as_json else _in_words(report, output))
    if report.missed:
        raise typer.Exit(1)


def _in_words(report: Report, output: Path) -> str:
    lines = []
    for place, (_, verdict) in enumerate(report.runs):
        lines.append(f"repetition {place + 1}\n{verdict.text}")
    for curve in report.curves:
        promised = "" if curve.promised != curve.promised else f", {curve.promised:.1f}/s meet all objectives"
        lines.append(f"capacity {curve.capacity:.1f}/s{promised}")
    lines += [str(finding) for finding in report.findings]
    lines += [f"IN DOUBT: {doubt}" for doubt in report.doubts]
    return "\n".join([*lines, f"{output / 'report.html'} shows it"])
