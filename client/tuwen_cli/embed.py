"""`tuwen embed`: embed images or texts into a file of vectors."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tuwen import InvalidArgumentError, ItemFailure, Preprocess, RefusedItem
from tuwen_cli.options import (
    JsonOption,
    ShowIgnoredOption,
    TimeoutOption,
    UrlOption,
    connect,
    print_json,
    printable,
)
from tuwen_files import TableWriter, check_key, check_suffix
from tuwen_files.image_files import IMAGE_SUFFIXES, image_files, listed_kinds
from tuwen_files.text_files import numbered_lines

__all__ = ["embed"]

_REFUSED_SHOWN = 10


def embed(
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image files, or folders searched for images.", show_default=False)
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", "-t", help="A text, instead of images. Repeat for more.")
    ] = None,
    texts_from: Annotated[
        Path | None, typer.Option(help="A UTF-8 file with a text in each line, instead of images; - reads stdin.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .npz or .parquet file to write (see tuwen[parquet]).")
    ] = None,
    preprocess: Annotated[
        Preprocess, typer.Option(help="Who decodes and resizes images. `client` spares the server's CPUs.")
    ] = "server",
    show_ignored: ShowIgnoredOption = False,
    progress: Annotated[
        bool, typer.Option("--progress/--no-progress", help="Show a progress bar if standard error is a terminal.")
    ] = True,
    url: UrlOption = "localhost:8001",
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Embed any number of images **or** texts.

    `--output` receives keys, vectors, and the fingerprint of their embedding space. Run the same command again to
    resume, or to add files that are new since the last run. `OUTPUT.refused.jsonl` lists rejected items. The other
    items are embedded, and the exit code is 1. Without `--output`, `--json` prints the vectors.
    """
    if sum(map(bool, (images, text, texts_from))) != 1:
        raise typer.BadParameter("expected one of image files or folders, --text, and --texts-from")
    if output is None and not as_json:
        raise typer.BadParameter("expected --output FILE for the vectors, or --json to print them")
    if output is not None:
        try:
            check_suffix(output)
        except InvalidArgumentError as error:
            raise typer.BadParameter(str(error)) from error
    unreadable: list[RefusedItem] = []
    keys = _image_files(images, unreadable, show_ignored=show_ignored) if images else _texts(text, texts_from)
    if output is None and unreadable:
        raise InvalidArgumentError(f"{unreadable[0].key}: {unreadable[0].error and unreadable[0].error.message}")
    with connect(url, timeout, preprocess=preprocess) as clip:
        card = clip.model_card()
        if output is None:
            vectors = clip.embed_images(keys) if images else clip.embed_texts(keys)
            items = [{"key": key, "embedding": vector.tolist()} for key, vector in zip(keys, vectors, strict=True)]
            print_json({"fingerprint": card.fingerprint, "dimension": card.embedding_dimension, "items": items})
            return
        refused: list[RefusedItem] = []
        cut = 0
        with TableWriter(output, card.fingerprint, card.embedding_dimension) as table, _interruptible() as interrupted:
            wanted = [key for key in dict.fromkeys(keys) if key not in table.done and _fits(output, key, unreadable)]
            known = len(table.done & set(keys))
            stream = clip.stream_images if images else clip.stream_texts
            for outcome in stream(wanted, progress=progress, timeout=timeout):
                if outcome.embedding is None:
                    refused.append(outcome)
                else:
                    table.add(str(outcome.key), outcome.embedding)
                cut += outcome.truncated
                if interrupted():
                    raise KeyboardInterrupt
    if cut:
        typer.secho(f"{cut} texts were cut to {card.context_length} tokens", fg=typer.colors.YELLOW, err=True)
    _report(output, len(wanted) - len(refused), known, [*unreadable, *refused], as_json=as_json)


def _fits(output: Path, key: str, refused: list[RefusedItem]) -> bool:
    """Return whether the output can hold a key. If not, add the item to the rejected items."""
    try:
        check_key(output, key)
    except InvalidArgumentError as error:
        refused.append(RefusedItem(-1, key, ItemFailure(-1, "not_utf8", str(error))))
        return False
    return True


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Delay Ctrl-C until the current result is written. A second Ctrl-C ends the command at once."""
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)
        typer.echo("stopping; run the same command again to resume", err=True)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def _report(output: Path, written: int, known: int, refused: list[RefusedItem], *, as_json: bool) -> None:
    listing = output.with_name(output.name + ".refused.jsonl")
    listing.unlink(missing_ok=True)
    if refused:
        lines = "".join(json.dumps(_described(item), ensure_ascii=False) + "\n" for item in refused)
        listing.write_bytes(lines.encode("utf-8", "backslashreplace"))  # JSON reads what this writes for half a pair
        for item in refused[:_REFUSED_SHOWN]:
            line = f"{item.key}: {item.error and item.error.message}"
            typer.secho(printable(line), fg=typer.colors.YELLOW, err=True)
        typer.secho(f"{len(refused)} refused, listed in {listing}", fg=typer.colors.RED, err=True)
    if as_json:
        print_json({"output": str(output), "written": written, "already_there": known, "refused": len(refused)})
    else:
        already = f"; {known} were there already" if known else ""
        typer.echo(f"{written} vectors written to {output}{already}")
    if refused:
        raise typer.Exit(1)


def _described(item: RefusedItem) -> dict[str, object]:
    return {"key": item.key, "reason": item.error.reason, "message": item.error.message}


def _texts(given: list[str] | None, file: Path | None) -> list[str]:
    if file is None:
        return given or []
    return [line for _, line in numbered_lines(sys.stdin.buffer if str(file) == "-" else file) if line]


def _image_files(paths: list[Path], unreadable: list[RefusedItem], *, show_ignored: bool) -> list[str]:
    """Return the given files, and in place of a folder the images in it, in a stable order.

    Files and subfolders that cannot be looked at are added to `unreadable`. The others that a folder holds are counted
    on standard error, and named if `show_ignored` asks for that.
    """
    files: list[str] = []
    left_out: Counter[str] = Counter()

    def leave_out(path: Path, kind: str) -> None:
        left_out[kind] += 1
        if show_ignored:
            typer.echo(f"no image: {str(path).encode('utf-8', 'backslashreplace').decode()}", err=True)

    def refuse(path: Path, error: OSError) -> None:
        message = f"cannot read it: {error.strerror or error}"
        unreadable.append(RefusedItem(-1, str(path), ItemFailure(-1, "unreadable", message)))

    for path in paths:
        if path.is_dir():
            found = sorted(map(str, image_files(path, left_out=leave_out, unreadable=refuse)))
            if not found and not unreadable:
                others = f"; it holds {listed_kinds(left_out)}" if left_out else ""
                raise typer.BadParameter(f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}){others}")
            files += found
        else:
            files.append(str(path))
    if left_out:
        typer.echo(f"skipped files that are not images: {listed_kinds(left_out)}", err=True)
    return files
