"""`tuwen tune`: find the best settings of a repository on this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tuwen_cli.connection import settings
from tuwen_cli.options import JsonOption, needs_extra, print_json, print_table
from tuwen_cli.parameters import expand_options
from tuwen_cli.server import ensure_server
from tuwen_server.options import TuningOptions

if TYPE_CHECKING:
    from tuwen_server.tuning import Trial, Tuning

__all__ = ["tune"]


@expand_options
def tune(
    repository: Annotated[Path, typer.Argument(help="Folder of a repository that `tuwen build` made.")],
    options: TuningOptions,
    as_json: JsonOption = False,
) -> None:
    """Find a repository's best settings on this machine: instances, threads and queue delay.

    With 16 or more cores, the number of processes that decode images is tuned, too.

    The trials send requests to Triton, which runs copies of the repository. The best settings are written into the
    repository's configs, and every trial into tuning.json. Vectors and fingerprint stay the same. With `--url`, the
    trials run on a server that already runs the repository; nobody else should use that server meanwhile.
    """
    with needs_extra("serve"):
        from tuwen_server.tuning import tune as run
    if options.url is None:
        ensure_server()
    tls, headers = settings()
    console = Console(stderr=True)

    def observe(trial: Trial) -> None:
        console.print("  ".join([f"{trial.kind:<6}", *_cells(trial)]), highlight=False)

    tuning = run(repository, options, tls=tls, headers=headers, observe=observe)
    if as_json:
        print_json({"repository": str(repository), **asdict(tuning)})
    else:
        _report(repository, tuning)


def _cells(trial: Trial) -> list[str]:
    tried = trial.settings
    return [
        f"{tried.instances} x {tried.threads or 'all'} threads",
        f"{tried.preprocessing} before",
        f"{tried.delay_microseconds / 1e3:g} ms delay",
        f"{trial.rate:.1f} a second",
        f"batch {trial.batch:.1f}",
        f"{trial.alone_seconds * 1e3:.1f} ms alone",
    ]


def _report(repository: Path, tuning: Tuning) -> None:
    rows = [
        [trial.kind, *_cells(trial), "chosen" if trial == tuning.chosen[trial.kind] else ""] for trial in tuning.trials
    ]
    columns = ["", "encoder", "preprocessing", "queue", "many callers", "", "one caller", ""]
    cores = "" if tuning.cores is None else f", {tuning.cores} cores"
    print_table(f"{repository} on {tuning.device}{cores}", columns, rows)
    if tuning.longest_wait is not None:
        typer.echo(f"A request that waits longer than {tuning.longest_wait:g} s in a queue is refused.")
