"""`tuwen tune`: find the best settings of a repository on this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tuwen_cli.options import JsonOption, needs_extra, print_json, print_table
from tuwen_cli.parameters import expand_options
from tuwen_cli.server import ensure_server
from tuwen_server.options import TuningOptions

if TYPE_CHECKING:
    from tuwen_server.tuning import Trial, Tuning

__all__ = ["tune"]


@expand_options
def tune(
    repository: Annotated[Path, typer.Argument(help="A folder that `tuwen build` made and that is not being served.")],
    options: TuningOptions,
    as_json: JsonOption = False,
) -> None:
    """Find the numbers of instances and threads and the queue delay that suit a repository best on this machine.

    With 16 cores or more, the number of processes that decode images is tried too.

    Triton serves copies of the repository under load. The best settings are written into its configs, and all trials
    into tuning.json. Vectors and fingerprint stay the same.
    """
    with needs_extra("serve"):
        from tuwen_server.tuning import tune as run
    ensure_server()
    console = Console(stderr=True)

    def observe(trial: Trial) -> None:
        console.print("  ".join([f"{trial.kind:<6}", *_cells(trial)]), highlight=False)

    tuning = run(repository, options, observe=observe)
    if as_json:
        print_json({"repository": str(repository), **asdict(tuning)})
    else:
        _report(repository, tuning)


def _cells(trial: Trial) -> list[str]:
    settings = trial.settings
    return [
        f"{settings.instances} x {settings.threads or 'all'} threads",
        f"{settings.preprocessing} before",
        f"{settings.delay_microseconds / 1e3:g} ms delay",
        f"{trial.rate:.1f} a second",
        f"batch {trial.batch:.1f}",
        f"{trial.alone_seconds * 1e3:.1f} ms alone",
    ]


def _report(repository: Path, tuning: Tuning) -> None:
    rows = [
        [trial.kind, *_cells(trial), "chosen" if trial == tuning.chosen[trial.kind] else ""] for trial in tuning.trials
    ]
    columns = ["", "encoder", "preprocessing", "queue", "many callers", "", "one caller", ""]
    print_table(f"{repository} on {tuning.device}, {tuning.cores} cores", columns, rows)
    if tuning.longest_wait is not None:
        typer.echo(f"What waits longer than {tuning.longest_wait:g} s for its turn is refused.")
