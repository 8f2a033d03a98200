"""``make demo``: a checkpoint becomes a repository, real Triton serves it, the SDK embeds with it.

``make serve`` (``--serve``) builds the same repository and leaves it to ``tuwen serve``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tuwen import Client, TuwenError
from tuwen_build.checkpoints import Checkpoint, open_checkpoint
from tuwen_build.quiet import quiet_transformers
from tuwen_build.reference import normalised, reference_pixels
from tuwen_build.repository import build_repository
from tuwen_build.samples import PHOTOGRAPHS, sample
from tuwen_build.seeded import write_seeded_checkpoint
from tuwen_build.server import EmbeddedServer, ServerOptions

__all__ = ["main"]

_WORKSPACE = Path(".cache") / "demo"
_REPOSITORY = _WORKSPACE / "repository"
_TEXTS = ["一只猫", "一杯咖啡", "火箭发射", "一位宇航员"]

_console = Console()


def main() -> None:
    """Run the demo, or with ``--serve`` build its repository and replace this process by ``tuwen serve``."""
    quiet_transformers()
    try:
        checkpoint_folder = _build()
        if "--serve" in sys.argv[1:]:
            tuwen = Path(sys.executable).parent / "tuwen"
            os.execv(tuwen, [str(tuwen), "serve", str(_REPOSITORY)])  # noqa: S606 - our own command, no shell
        _serve_and_compare(open_checkpoint(str(checkpoint_folder)))
    except TuwenError as error:
        sys.exit(f"demo: {error}")


def _build() -> Path:
    _console.rule("1. Build: checkpoint to verified repository")
    checkpoint = write_seeded_checkpoint(_WORKSPACE / "checkpoint")
    _console.print(f"{checkpoint}: a small Chinese-CLIP with [bold]untrained[/bold], seeded random weights")
    build_repository(str(checkpoint), _REPOSITORY, force=True, progress=lambda step: _console.print(f"  {step}"))
    _console.print(f"{_REPOSITORY}: built")
    return checkpoint


def _serve_and_compare(checkpoint: Checkpoint) -> None:
    _console.rule("2. Serve: NVIDIA's tritonserver on this machine")
    images = [sample(name) for name in PHOTOGRAPHS]
    with EmbeddedServer(_REPOSITORY, ServerOptions.on_free_ports()) as server:
        _console.print(f"tritonserver {server.pid} is ready: gRPC {server.grpc_url}, metrics {server.metrics_url}")
        _console.rule("3. Embed: pictures and Chinese texts over gRPC")
        with Client(server.grpc_url) as clip:
            card = clip.model_card()
            _console.print(f"embedding space {card.fingerprint}, {card.embedding_dimension} dimensions")
            image_embeddings = clip.embed_images(images)
            text_embeddings = clip.embed_texts(_TEXTS)
            cosine = clip.similarity(images=images, texts=_TEXTS).cosine
        _print_cosines(cosine)
        _console.print("[yellow]The checkpoint is untrained: its vectors are exact, but mean nothing.[/yellow]")
        _console.rule("4. Compare: the served vectors with the reference implementation")
        _print_difference("images", image_embeddings, _reference_images(checkpoint, images))
        _print_difference("texts", text_embeddings, _reference_texts(checkpoint, _TEXTS))
    _console.print("The server has stopped.")


def _print_cosines(cosine: NDArray[np.float32]) -> None:
    table = Table(title="cosine similarity", title_justify="left")
    table.add_column("")
    for text in _TEXTS:
        table.add_column(text, justify="right")
    for name, row in zip(PHOTOGRAPHS, cosine, strict=True):
        table.add_row(name, *(f"{value:.4f}" for value in row))
    _console.print(table)


def _print_difference(kind: str, served: NDArray[np.float32], reference: NDArray[np.float32]) -> None:
    _console.print(f"{kind}: largest difference of a component {np.abs(served - reference).max():.1e} (allowed: 1e-5)")


def _reference_images(checkpoint: Checkpoint, paths: list[Path]) -> NDArray[np.float32]:
    """transformers, on pixels that Pillow resized: none of the code that serves."""
    rules = checkpoint.preprocessing
    pixels = np.stack([reference_pixels(path.read_bytes(), rules) for path in paths])
    return _unit(checkpoint.reference.embed_images(normalised(torch.from_numpy(pixels), rules)))


def _reference_texts(checkpoint: Checkpoint, texts: list[str]) -> NDArray[np.float32]:
    """transformers' tokenizer and model, one text at a time."""
    rows = []
    for text in texts:
        ids = torch.tensor([checkpoint.reference.tokenize(text, checkpoint.tokenization.default_context_length)])
        rows.append(checkpoint.reference.embed_texts(ids, torch.ones_like(ids)))
    return _unit(torch.cat(rows))


def _unit(embeddings: torch.Tensor) -> NDArray[np.float32]:
    result: NDArray[np.float32] = torch.nn.functional.normalize(embeddings, dim=-1).numpy()
    return result


if __name__ == "__main__":
    main()
