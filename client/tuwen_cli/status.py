"""`tuwen status`: show whether a server is ready, its model card, and its load."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from tuwen import AccessDeniedError, Client, ModelCard, ServerError
from tuwen.statistics import ModelStatistics, Statistics, difference
from tuwen_cli.connection import connect
from tuwen_cli.options import JsonOption, ModelOption, TimeoutOption, UrlOption, print_json, print_table
from tuwen_cli.security_floor import outdated, running_version

__all__ = ["status"]


def status(
    url: UrlOption = "localhost:8001",
    model: ModelOption = "",
    timeout: TimeoutOption = 5.0,
    over: Annotated[
        float, typer.Option(min=0.0, max=86_400.0, help="Duration of the throughput measurement, in seconds.")
    ] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Show whether a server is ready, its models with their embedding spaces, and the load of each model.

    The model card belongs to `--model`, or to the only model. Counts and means cover the time since the models were
    loaded. Throughput covers the seconds of `--over`. The exit code is 1 if the server is not ready.
    """
    card: ModelCard | None = None
    counted: Statistics = {}
    lately: Statistics = {}
    reason: str | None = None
    version: str | None = None
    served: dict[str, ModelCard] = {}
    with connect(url, timeout, model=model) as clip:
        ready = clip.is_ready(timeout=timeout)
        if ready:
            served = _served(clip)
            only = next(iter(served.values())) if len(served) == 1 and not model else None
            card = only or served.get(model)
            if card is None and (model or not served):
                card = clip.model_card()  # the server refuses statistics, or has no such model
            counted, lately = _counted(clip, over)
            version = running_version(url, timeout)
        else:
            reason = _reason(clip)
    warning = outdated(version or "")
    models = {name: _row(statistics, lately[name], over) for name, statistics in sorted(counted.items())}
    if as_json:
        print_json(
            {
                "url": url,
                "ready": ready,
                "reason": reason,
                "triton": version,
                "security": warning,
                "model_card": card and asdict(card),
                "served": {name: asdict(found) for name, found in served.items()},
                "models": models,
            }
        )
    elif not ready:
        typer.echo(f"{url} is not ready: {reason}")
    else:
        rows = [
            [name.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value)]
            for name, value in (asdict(card).items() if card is not None else ())
        ]
        print_table("", [url, "ready"], [*rows, ["triton", version or "unknown"]])
        if len(served) > 1:
            print_table("", ["name", "model", "fingerprint", "precision", "checkpoint"], _listed(served))
        if warning:
            typer.echo(f"warning: {warning}", err=True)
        if models:
            columns = ["model", *[name.replace("_", " ") for name in next(iter(models.values()))]]
            print_table("", columns, [[name, *map(_cell, row.values())] for name, row in models.items()])
        else:
            typer.echo("the server does not show statistics without its key")
    if not ready:
        raise typer.Exit(1)


def _served(clip: Client) -> dict[str, ModelCard]:
    """Return the cards of all loaded models by name; empty if the server refuses statistics without its key."""
    try:
        return clip.models()
    except AccessDeniedError:
        return {}


def _listed(served: dict[str, ModelCard]) -> list[list[str]]:
    """Return a row for each model and alias: its name, and the model to which the name refers."""
    return [
        [name or "(no name)", card.name or "(no name)", card.fingerprint, card.precision, card.checkpoint]
        for name, card in served.items()
    ]


def _reason(clip: Client) -> str:
    """Return the reason why a server is not ready: the error of a failed call, or that models are not loaded."""
    try:
        clip.model_card()
    except ServerError as error:
        return str(error)
    return "the server answers, but has not loaded all its models"


def _counted(clip: Client, over: float) -> tuple[Statistics, Statistics]:
    """Return the statistics since the models were loaded, and the statistics of the next `over` seconds."""
    try:
        before = clip.statistics()
        time.sleep(over)
        now = clip.statistics()
    except AccessDeniedError:
        return {}, {}
    return now, difference(now, before)


def _row(statistics: ModelStatistics, lately: ModelStatistics, over: float) -> dict[str, float]:
    requests = max(statistics.requests, 1)
    return {
        "requests": statistics.requests,
        "failures": statistics.failures,
        "items": statistics.items,
        "mean_batch_size": statistics.mean_batch_size,
        "queue_ms": statistics.queue_seconds / requests * 1e3,
        "compute_ms": statistics.compute_seconds / requests * 1e3,
        "items_per_second": lately.items / over if over else 0.0,
    }


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.2f}"
