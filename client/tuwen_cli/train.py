"""`tuwen train`: train a checkpoint on images and texts."""

from __future__ import annotations

import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tuwen_cli.options import JsonOption, SkipBadRowsOption, needs_extra, print_json, say_skipped_rows
from tuwen_cli.parameters import expand_options
from tuwen_lab.options import TrainingOptions

if TYPE_CHECKING:
    from tuwen_lab.training import Evaluation, Stage

__all__ = ["train"]


@expand_options
def train(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder with train_imgs.tsv and train_texts.jsonl, and optionally valid_imgs.tsv and "
            "valid_texts.jsonl."
        ),
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the checkpoint to create.")],
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Chinese-CLIP checkpoint in the Hugging Face layout to start from. Default: random weights."),
    ] = None,
    architecture: Annotated[
        Path | None,
        typer.Option(
            help="File config.json of a model to train from random weights. Default: the config of the demo checkpoint."
        ),
    ] = None,
    options: TrainingOptions,
    skip_bad_rows: SkipBadRowsOption = False,
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted training.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the output of an earlier training.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train Chinese-CLIP in two stages: first the text tower alone, then both towers.

    If the training starts from random weights, an additional first stage trains both towers. The output is a checkpoint
    for `tuwen build` in the Hugging Face layout, with training.json and training.png. After Ctrl-C, --resume continues
    the training.
    """
    with needs_extra("train"):
        import matplotlib  # noqa: F401 - needed in the end: better missed now

        from tuwen_build.transformers_logging import quiet_transformers
        from tuwen_lab.training import train as run
        from tuwen_repository.environment import keep_freed_memory
    quiet_transformers()
    keep_freed_memory()
    try:
        with _Bar() as bar:
            summary = run(
                data,
                output,
                options,
                checkpoint=checkpoint,
                architecture=architecture,
                resume=resume,
                force=force,
                skip_bad_rows=skip_bad_rows,
                observer=bar,
            )
    except KeyboardInterrupt:
        typer.echo("interrupted; run the same command with --resume to continue", err=True)
        raise
    say_skipped_rows(list(summary.skipped))
    if as_json:
        content: dict[str, Any] = asdict(summary)
        print_json({**content, "output": str(output)})
        return
    typer.echo(f"{output}: {summary.parameters / 1e6:.1f} M parameters, {summary.steps} steps")
    if summary.best:
        typer.echo(f"  best at step {summary.best.step}: {_recall_text(summary.best)}")
    if summary.stopped_early:
        typer.echo("  stopped early: recall no longer grew")
    typer.echo(f"Build a repository from it with: tuwen build {output} -o repository")


def _recall_text(evaluation: Evaluation) -> str:
    sides = (("text to image", evaluation.text_to_image), ("image to text", evaluation.image_to_text))
    return "; ".join(f"{name} R@1 {r1:.1f}, R@5 {r5:.1f}, R@10 {r10:.1f}" for name, (r1, r5, r10) in sides)


class _Bar:
    """The display of a training: a bar for each stage, and a line for each evaluation."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task: Any = None
        self._started = time.monotonic()
        self._interrupted = False
        self._handler: Any = None

    def __enter__(self) -> _Bar:
        self._handler = signal.signal(signal.SIGINT, self._interrupt)
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        signal.signal(signal.SIGINT, self._handler)

    def _interrupt(self, *_: object) -> None:
        """Delay Ctrl-C until the step ends, so that no step is lost. A second Ctrl-C ends the command at once."""
        self._interrupted = True
        signal.signal(signal.SIGINT, self._handler)

    def begin(self, stage: Stage, steps: int, done: int) -> None:
        """Show the progress bar of a training stage."""
        self._task = self._progress.add_task(stage.name, total=steps, completed=done, loss=0.0)

    def adjusted(self, reason: str) -> None:
        """Print a setting that was replaced because the data set is small."""
        self._console.print(f"little data: {reason}", highlight=False, soft_wrap=True, style="yellow")

    def step(self, loss: float) -> None:
        """Advance the progress bar after a training step."""
        if self._interrupted:
            raise KeyboardInterrupt
        self._progress.update(self._task, advance=1, loss=loss)

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        """Print the results of an evaluation."""
        minutes = (time.monotonic() - self._started) / 60
        mark = "  best" if best else ""
        self._console.print(
            f"step {evaluation.step}, {minutes:.1f} min: {_recall_text(evaluation)}{mark}",
            highlight=False,
            soft_wrap=True,
        )
