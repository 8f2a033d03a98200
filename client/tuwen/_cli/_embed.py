"""`tuwen embed`: images or texts to a file of vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tuwen._cli._options import JsonOption, TimeoutOption, UrlOption, print_json
from tuwen._client import Client
from tuwen._errors import InvalidArgumentError

__all__ = ["embed"]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}


def embed(
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image files, or folders searched for images.", show_default=False)
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", "-t", help="A text, instead of images. Repeat for more.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .npz file to write: keys, embeddings, fingerprint.")
    ] = None,
    url: UrlOption = "localhost:8001",
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Embed images **or** texts.

    Writes `--output`, or prints the vectors with `--json`. The file carries the fingerprint of the embedding
    space, so that vectors of two models are never mixed up.
    """
    paths = _image_files(images or [])
    if bool(paths) == bool(text):
        raise typer.BadParameter("give image files or folders, or --text, one of the two")
    if output is None and not as_json:
        raise typer.BadParameter("say where the vectors go: --output FILE.npz, or --json to print them")
    if output is not None and output.suffix != ".npz":
        raise typer.BadParameter(f"{output}: the output is a .npz file")
    with Client(url, timeout=timeout) as clip:
        vectors = clip.embed_texts(text) if text else clip.embed_images(paths)
        card = clip.model_card()
    keys = text or [str(path) for path in paths]
    if output is not None:
        try:
            np.savez(output, keys=np.array(keys), embeddings=vectors, fingerprint=np.array(card.fingerprint))
        except OSError as error:
            raise InvalidArgumentError(f"cannot write {output}: {error.strerror}") from error
    if as_json:
        items = [{"key": key, "embedding": vector.tolist()} for key, vector in zip(keys, vectors, strict=True)]
        print_json({"fingerprint": card.fingerprint, "dimension": card.embedding_dimension, "items": items})
    else:
        typer.echo(f"{len(keys)} vectors of {card.embedding_dimension} dimensions written to {output}")


def _image_files(paths: list[Path]) -> list[Path]:
    """The given files, and in place of a folder the images in it, in a stable order."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
            if not found:
                raise typer.BadParameter(f"{path} holds no images ({', '.join(sorted(_SUFFIXES))})")
            files += found
        else:
            files.append(path)
    return files
