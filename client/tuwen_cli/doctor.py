"""`tuwen doctor`: examine a running server, and explain problems and their remedies."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tuwen.clock import Deadline
from tuwen_cli.connection import settings
from tuwen_cli.diagnosis import Finding, findings_of
from tuwen_cli.options import JsonOption, ModelOption, print_json

__all__ = ["doctor"]

_COLOURS = {"error": typer.colors.RED, "warning": typer.colors.YELLOW, "note": typer.colors.CYAN}


def doctor(
    url: Annotated[
        str, typer.Argument(envvar="TUWEN_URL", help="host:port of the server's gRPC endpoint, such as localhost:8001.")
    ] = "localhost:8001",
    model: ModelOption = "",
    burst: Annotated[
        int,
        typer.Option(
            min=0,
            max=256,
            help="Number of texts to send at once, to count the batches that Triton forms. 0: send no texts.",
        ),
    ] = 0,
    http_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port of the server's HTTP API; 0: not examined. Default: 8000 if the gRPC port is 8001, else 0.",
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port of the server's metrics; 0: not examined. Default: 8002 if the gRPC port is 8001, else 0.",
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Maximum duration of each call in seconds.")] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Examine a running server, from its version, queues and control protocols to TLS, clock, memory and caches.

    Each finding says what it means and what to do. The exit code is 1 if a finding is an error.
    """
    from tuwen_cli.examination import examine

    seconds = Deadline(timeout).remaining()
    tls, headers = settings()
    facts = examine(
        url,
        tls=tls,
        headers=headers,
        model=model,
        burst=burst,
        http_port=http_port,
        metrics_port=metrics_port,
        timeout=seconds,
    )
    found = findings_of(facts)
    if as_json:
        print_json({"url": url, "triton": facts.version, "findings": [asdict(finding) for finding in found]})
    else:
        for finding in found:
            _say(finding)
    if any(finding.severity == "error" for finding in found):
        raise typer.Exit(1)


def _say(finding: Finding) -> None:
    severity = typer.style(f"{finding.severity:7}", fg=_COLOURS.get(finding.severity, typer.colors.GREEN))
    typer.echo(f"{severity}  {finding.check}: {finding.message}")
    if finding.remedy:
        typer.echo(f"         {finding.remedy}")
