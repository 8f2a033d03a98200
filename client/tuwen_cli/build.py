"""`tuwen build`: build a verified model repository from a checkpoint."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tuwen_build.options import BuildOptions, ReadOptions
from tuwen_cli.options import JsonOption, needs_extra, print_json
from tuwen_cli.parameters import expand_options

if TYPE_CHECKING:
    from tuwen_repository.manifest import Manifest

__all__ = ["build"]


@expand_options
def build(
    checkpoint: Annotated[
        str,
        typer.Argument(help="Folder or file of a checkpoint, or its ID on the Hugging Face hub, such as owner/name."),
    ],
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the repository to create.")] = None,
    read_options: ReadOptions,
    options: BuildOptions,
    explain: Annotated[
        bool, typer.Option("--explain", help="Describe the recognised checkpoint without building it.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the repository of an earlier build.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a Triton model repository from a checkpoint, and verify it against the reference implementation.

    If the exported encoders, the tokenizer or the preprocessing differ from the reference, the repository is not
    written.
    """
    with needs_extra("build"):
        from tuwen_build.hardware import choose_precision, precision_warning
        from tuwen_build.repository import build_repository
        from tuwen_build.transformers_logging import quiet_transformers
        from tuwen_repository.environment import keep_freed_memory
    quiet_transformers()
    keep_freed_memory()
    if explain:
        _explain(checkpoint, read_options, as_json=as_json)
        return
    if output is None:
        raise typer.BadParameter("expected --output FOLDER for the repository, or --explain")
    if options.precision == "auto":
        choice = choose_precision()
        options = replace(options, precision=choice.precision)
        typer.echo(f"precision {choice.precision}: {choice.reason}", err=True)
    elif (warning := precision_warning(options.precision)) is not None:
        typer.secho(f"warning: {warning}", fg=typer.colors.YELLOW, err=True)
    with _Steps() as steps:
        manifest = build_repository(checkpoint, output, options, read_options=read_options, force=force, progress=steps)
    if as_json:
        content: dict[str, Any] = asdict(manifest)
        print_json({"output": str(output), **content})
    else:
        _report(output, manifest)


def _explain(source: str, read_options: ReadOptions, *, as_json: bool) -> None:
    from tuwen_build.checkpoints import open_checkpoint
    from tuwen_build.explanation import explain as explained

    explanation = explained(open_checkpoint(source, read_options))
    if as_json:
        print_json(asdict(explanation))
        return
    towers = {"image tower": explanation.vision, "text tower": explanation.text}
    sizes = {name: explanation.vision.bytes[name] + explanation.text.bytes[name] for name in explanation.text.bytes}
    rows = {
        "family": f"{explanation.family}: {explanation.layout}",
        **{name: f"{tower.architecture}; {tower.parameters / 1e6:.1f} M parameters" for name, tower in towers.items()},
        "embedding": f"{explanation.embedding_dimension} dimensions, logit scale {explanation.logit_scale:.4f}",
        "images": explanation.preprocessing,
        "texts": f"{explanation.tokenizer}, {explanation.vocabulary_size} tokens; {explanation.context_length} a text, "
        f"at most {explanation.max_context_length}; text rules: {', '.join(explanation.text_rules)}",
        "weights": ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sizes.items()),
        "files": ", ".join(explanation.files),
    }
    for name, value in rows.items():
        typer.echo(f"{name:<12} {value}")


def _report(output: Path, manifest: Manifest) -> None:
    typer.echo(f"{output}: {manifest.family}, {manifest.embedding_dimension} dimensions, {manifest.precision}")
    typer.echo(f"  fingerprint {manifest.fingerprint}")
    for kind, deviation in (("images", manifest.image_deviation), ("texts", manifest.text_deviation)):
        typer.echo(
            f"  {kind}: at most {deviation.max_abs:.1e} from the reference in a component, cosine at least "
            f"{deviation.min_cosine:.7f} ({deviation.compared} compared)"
        )
    typer.echo(f"Serve it with: tuwen serve {output}")


class _Steps:
    """A display of the build's progress: a spinner for the current step, and the duration of each finished step."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._status = self._console.status("")
        self._step: str | None = None
        self._started = 0.0

    def __call__(self, step: str) -> None:
        self._finish()
        self._step, self._started = step, time.monotonic()
        self._status.update(step)

    def __enter__(self) -> _Steps:
        self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._finish()
        self._status.stop()

    def _finish(self) -> None:
        if self._step is not None:
            self._console.print(f"{self._step}: {time.monotonic() - self._started:.1f} s", highlight=False)
