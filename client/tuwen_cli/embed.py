"""`tuwen embed`: embed images or texts into a file of vectors."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from tuwen import Client, InvalidArgumentError, Preprocess, RefusedItem
from tuwen_cli.connection import connect
from tuwen_cli.counts import counted
from tuwen_cli.inputs import checked_texts
from tuwen_cli.options import (
    JsonOption,
    ModelOption,
    ShowIgnoredOption,
    TimeoutOption,
    UrlOption,
    print_json,
    printable,
)
from tuwen_files import TableUpdate, TableWriter, UpdateReport, check_key, check_suffix
from tuwen_files.image_files import IMAGE_SUFFIXES, image_files, listed_kinds
from tuwen_files.replacing import replacing
from tuwen_files.text_files import numbered_lines

__all__ = ["embed"]

_REFUSED_SHOWN = 10


def embed(
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Image files, or folders that contain images at any depth.", show_default=False),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", "-t", help="Text to embed. Cannot be combined with images. Repeat for more."),
    ] = None,
    texts_from: Annotated[
        Path | None,
        typer.Option(
            help="UTF-8 file with a text to embed in each line; - reads stdin. Cannot be combined with images."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The .npz or .parquet file to write. Parquet needs the extra tuwen[parquet]."
        ),
    ] = None,
    preprocess: Annotated[
        Preprocess,
        typer.Option(
            help="Side that decodes and resizes images: the server, or this client to save CPU time on the server."
        ),
    ] = "server",
    keep_removed: Annotated[
        bool, typer.Option("--keep-removed", help="Keep the vectors of files that are no longer in their folder.")
    ] = False,
    confirm_removal: Annotated[
        bool, typer.Option("--confirm-removal", help="Remove the vectors of a folder that now holds no images at all.")
    ] = False,
    show_ignored: ShowIgnoredOption = False,
    progress: Annotated[
        bool, typer.Option("--progress/--no-progress", help="Show a progress bar if standard error is a terminal.")
    ] = True,
    url: UrlOption = "localhost:8001",
    model: ModelOption = "",
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Embed any number of images **or** texts.

    The file `--output` receives keys, vectors, and the fingerprint of the vectors' embedding space. Run the same
    command again to resume an interrupted run, or to update the file: new and changed images are embedded, and vectors
    of missing images are removed. `OUTPUT.refused.jsonl` lists rejected items. The other items are embedded, and the
    exit code is 1. Without `--output`, `--json` prints the vectors.
    """
    if sum(map(bool, (images, text, texts_from))) != 1:
        raise typer.BadParameter("expected exactly one kind of input: images, --text or --texts-from")
    checked_texts("--text", text or [])
    if output is None and not as_json:
        raise typer.BadParameter("expected --output FILE for the vectors, or --json to print them")
    if output is not None:
        try:
            check_suffix(output)
        except InvalidArgumentError as error:
            raise typer.BadParameter(str(error)) from error
    found = _image_files(images or [], show_ignored=show_ignored, may_be_empty=confirm_removal)
    keys = found.files if images else _texts(text, texts_from)
    if output is None and found.unreadable:
        path, reason = next(iter(found.unreadable.items()))
        raise InvalidArgumentError(f"{path}: {reason}")
    with connect(url, timeout, model=model, preprocess=preprocess) as clip:
        card = clip.model_card()
        if output is None:
            vectors = clip.embed_images(keys) if images else clip.embed_texts(keys)
            items = [{"key": key, "embedding": vector.tolist()} for key, vector in zip(keys, vectors, strict=True)]
            print_json({"fingerprint": card.fingerprint, "dimension": card.embedding_dimension, "items": items})
            return
        start = time.monotonic()
        with (
            TableWriter(output, card.fingerprint, card.embedding_dimension) as table,
            _interruptible() as stop_if_asked,
        ):
            if images:
                report = _add_images(clip, table, output, found, keep_removed, progress, stop_if_asked)
            else:
                report = _add_texts(clip, table, output, keys, progress, stop_if_asked)
    _report(output, report, time.monotonic() - start, as_json=as_json)


def _add_images(
    clip: Client,
    table: TableWriter,
    output: Path,
    found: _Images,
    keep_removed: bool,
    progress: bool,
    stop_if_asked: Callable[[], None],
) -> UpdateReport:
    update = TableUpdate(
        table,
        [key for key in found.files if _reason_not_kept(output, key) is None],
        folders=found.folders,
        unseen=list(found.unreadable),
        keep_removed=keep_removed,
        max_bytes=clip.model_card().max_image_bytes,
    )
    for path, reason in found.unreadable.items():
        update.refuse(path, "unreadable", reason)
    for key in dict.fromkeys(found.files):
        if why := _reason_not_kept(output, key):
            update.refuse(key, "not_utf8", why)
    total = update.count()
    table.check_space(total)
    hidden = None if progress else True  # None: hidden unless standard error is a terminal
    with tqdm(total=total, unit=" items", disable=hidden, smoothing=0.05) as bar:
        for outcome in clip.stream_images(update.wanted()):
            update.take(outcome)
            bar.update()
            stop_if_asked()
    update.finish()
    return update.report


def _add_texts(
    clip: Client, table: TableWriter, output: Path, texts: list[str], progress: bool, stop_if_asked: Callable[[], None]
) -> UpdateReport:
    report = UpdateReport(unchanged=len(table.done & set(texts)))
    cut = 0
    wanted = [key for key in dict.fromkeys(texts) if key not in table.done]
    kept = [key for key in wanted if _reason_not_kept(output, key) is None]
    table.check_space(len(kept))
    for outcome in clip.stream_texts(kept, progress=progress):
        if outcome.embedding is None:
            report.failures.append(outcome)
        else:
            table.add(str(outcome.key), outcome.embedding)
            report.added += 1
        cut += outcome.truncated
        stop_if_asked()
    if cut:
        length = clip.model_card().context_length
        typer.secho(
            f"{cut} texts are longer than {length} tokens; their ends were ignored", fg=typer.colors.YELLOW, err=True
        )
    return report


def _reason_not_kept(output: Path, key: str) -> str | None:
    """Return the reason why the output file cannot contain a key; None if it can contain the key."""
    try:
        check_key(output, key)
    except InvalidArgumentError as error:
        return str(error)
    return None


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Provide a function to call between two results. After Ctrl-C, the function raises KeyboardInterrupt.

    A second Ctrl-C ends the command at once.
    """
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)
        typer.echo("stopping; run the same command again to resume", err=True)

    def stop_if_asked() -> None:
        if asked:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop_if_asked
    finally:
        signal.signal(signal.SIGINT, before)


def _report(output: Path, report: UpdateReport, seconds: float, *, as_json: bool) -> None:
    listing = output.with_name(output.name + ".refused.jsonl")
    listing.unlink(missing_ok=True)
    refused = report.failures
    if refused:
        lines = "".join(json.dumps(_described(item), ensure_ascii=False) + "\n" for item in refused)
        with replacing(listing) as scratch:  # JSON reads the escape that is written for half a surrogate pair
            scratch.write_bytes(lines.encode("utf-8", "backslashreplace"))
        for item in refused[:_REFUSED_SHOWN]:
            line = f"{item.key}: {item.error.message}"
            typer.secho(printable(line), fg=typer.colors.YELLOW, err=True)
        typer.secho(f"{len(refused)} refused, listed in {listing}", fg=typer.colors.RED, err=True)
    counts = {**vars(report), "failed": len(refused)}
    del counts["failures"]
    if as_json:
        print_json({"output": str(output), **counts, "seconds": seconds})
    else:
        typer.echo(f"{output}: {counted(**counts)}, in {seconds:.1f} s")
    if refused:
        raise typer.Exit(1)


def _described(item: RefusedItem) -> dict[str, object]:
    return {"key": item.key, "reason": item.error.reason, "message": item.error.message}


def _texts(given: list[str] | None, file: Path | None) -> list[str]:
    if file is None:
        return given or []
    return [line for _, line in numbered_lines(sys.stdin.buffer if str(file) == "-" else file) if line]


@dataclass
class _Images:
    """The image files that the command line names.

    Attributes:
        files: the paths of the files, in a stable order.
        folders: the folders that were searched.
        unreadable: the paths that could not be read, and the reasons.
    """

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


def _image_files(paths: list[Path], *, show_ignored: bool, may_be_empty: bool) -> _Images:
    """Return the given files, and the images in the given folders.

    The number of files that are not images is printed on standard error. With `show_ignored`, their paths are printed,
    too.
    """
    found = _Images()
    left_out: Counter[str] = Counter()

    def leave_out(path: Path, kind: str) -> None:
        left_out[kind] += 1
        if show_ignored:
            typer.echo(f"not an image: {str(path).encode('utf-8', 'backslashreplace').decode()}", err=True)

    def refuse(path: Path, error: OSError) -> None:
        found.unreadable[str(path)] = f"cannot read it: {error.strerror or error}"

    for path in paths:
        if not path.is_dir():
            found.files.append(str(path))
            continue
        files = sorted(map(str, image_files(path, left_out=leave_out, unreadable=refuse)))
        if not files and not found.unreadable and not may_be_empty:
            others = f"; it holds {listed_kinds(left_out)}" if left_out else ""
            raise typer.BadParameter(
                f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}){others}. If its disk is not mounted, "
                "mount it; if the images are gone for good, run again with --confirm-removal"
            )
        found.files += files
        found.folders.append(str(path))
    if left_out:
        typer.echo(f"skipped files that are not images: {listed_kinds(left_out)}", err=True)
    return found
