"""`tuwen loadtest`: measure the capacity of a deployment, and check service level objectives."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tuwen_cli.connection import settings
from tuwen_cli.options import JsonOption, ModelOption, needs_extra
from tuwen_cli.parameters import expand_options
from tuwen_loadtest.options import LoadTestOptions, PayloadOptions

if TYPE_CHECKING:
    from tuwen_loadtest.load_test import Report

__all__ = ["loadtest"]


@expand_options
def loadtest(
    target: Annotated[
        str,
        typer.Argument(
            help="host:port of the server's gRPC endpoint, or a repository folder to serve during the test."
        ),
    ] = "localhost:8001",
    *,
    model: ModelOption = "",
    options: LoadTestOptions,
    payloads: PayloadOptions,
    metrics: Annotated[
        str | None,
        typer.Option(help="Address of the server's metrics, such as http://host:8002/metrics."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write report.html and report.json into.")
    ] = Path("loadtest-report"),
    as_json: JsonOption = False,
) -> None:
    """Send requests to a server as users would, and report its capacity and latencies.

    Latencies count from the scheduled start of a request. So a stall of the server counts for every request that was
    due during the stall.
    """
    with needs_extra("loadtest"):
        from tuwen_loadtest.load_test import Connection, load_test, write_report
    console = Console(stderr=True)

    def say(step: str) -> None:
        status.update("")
        console.print(step, highlight=False, markup=False, soft_wrap=True)

    with console.status("") as status:  # a line on a terminal; without a terminal, no output
        report = load_test(
            Connection(target, *settings(), model=model),
            replace(options, payloads=payloads),
            say,
            metrics=metrics,
            live=lambda line: status.update(escape(line)),
        )
    write_report(report, output)
    typer.echo((output / "report.json").read_text(encoding="utf-8") if as_json else _report_text(report, output))
    if report.missed:
        raise typer.Exit(1)


def _report_text(report: Report, output: Path) -> str:
    lines = [f"{report.answer.sentence}", *(f"  {reason}" for reason in report.answer.reasons), ""]
    for place, (_, verdict) in enumerate(report.runs):
        lines.append(f"repetition {place + 1}\n{verdict.text}")
    for curve in report.curves:
        load = f"{curve.promised:.0f} concurrent callers" if curve.callers else f"{curve.promised:.1f}/s"
        promised = "" if math.isnan(curve.promised) else f", {load} meet all objectives"
        lines.append(f"capacity {curve.capacity:.1f}/s{promised}")
    lines += [str(finding) for finding in report.findings]
    lines += [f"in doubt: {doubt}" for doubt in report.doubts if doubt not in report.answer.reasons]
    return "\n".join([*lines, f"{output / 'report.html'} shows all measurements, with charts"])
