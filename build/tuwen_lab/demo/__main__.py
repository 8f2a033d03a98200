"""Build a repository from the demo checkpoint, serve it with Triton, and search pictures by Chinese words.

``--serve`` builds the repository and runs ``tuwen serve``. ``--page`` serves a page on which people search the gallery.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tuwen import Client, TuwenError
from tuwen_build.checkpoints import Checkpoint, open_checkpoint
from tuwen_build.options import BuildOptions
from tuwen_build.repository import build_repository
from tuwen_build.transformers_logging import quiet_transformers
from tuwen_build.verification.reference import normalised, reference_pixels
from tuwen_edge import EdgeOptions, EdgeThread
from tuwen_lab.demo import CHECKPOINT, EVERYDAY_WORDS, GALLERY
from tuwen_lab.demo._results_picture import write_results
from tuwen_repository.samples import PHOTOGRAPHS, sample
from tuwen_server import EmbeddedServer, ServerOptions
from tuwen_server.errors import ServeError
from tuwen_server.signals import stop_on_signals

__all__ = ["main"]

_WORKSPACE = Path(".cache") / "demo"
_REPOSITORY = _WORKSPACE / "repository"
_RESULTS = _WORKSPACE / "search.svg"
_TEXTS = ("一只猫", "一只狗", "老虎", "一辆汽车", "一个苹果", "月亮")
_SHOWN = 5
_HTTP_PORT = 8080

_console = Console()


def main() -> None:
    """Build the demo's repository. Then serve it (``--serve``), serve the page (``--page``), or search examples."""
    if not CHECKPOINT.is_dir():
        sys.exit(
            "demo: build/demo with the checkpoint and the gallery is missing; run the demo from a checkout of the "
            "source"
        )
    quiet_transformers()
    try:
        with stop_on_signals():
            _run()
    except TuwenError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _run() -> None:
    _build()
    if "--serve" in sys.argv[1:]:
        tuwen = Path(sys.executable).parent / "tuwen"
        os.execv(tuwen, [str(tuwen), "serve", str(_REPOSITORY), "--http-api", str(_HTTP_PORT)])  # noqa: S606 - our own command, no shell
    if "--page" in sys.argv[1:]:
        from tuwen_lab.demo._page import serve_page  # noqa: PLC0415 - takes an extra

        serve_page(_REPOSITORY, _WORKSPACE / "search.db")
    else:
        _serve_and_ask(open_checkpoint(str(CHECKPOINT)))


def _build() -> None:
    _console.rule("1. Build: checkpoint to verified repository")
    _console.print(f"{_here(CHECKPOINT)}: a small Chinese-CLIP that learned from emoji artwork (see its README)")
    options = BuildOptions(image_rules="display")
    build_repository(
        str(CHECKPOINT), _REPOSITORY, options, force=True, progress=lambda step: _console.print(f"  {step}")
    )
    _console.print(f"{_REPOSITORY}: built")


def _serve_and_ask(checkpoint: Checkpoint) -> None:
    _console.rule("2. Serve: NVIDIA's tritonserver on this machine")
    with EmbeddedServer(_REPOSITORY, ServerOptions.on_free_ports()) as server:
        _console.print(f"tritonserver {server.pid} is ready: gRPC {server.grpc_url}, metrics {server.metrics_url}")
        with Client(server.grpc_url) as clip:
            card = clip.model_card()
            _console.print(f"embedding space {card.fingerprint}, {card.embedding_dimension} dimensions")
            _console.rule("3. Compare: one picture and several texts")
            _compare(clip, GALLERY / "猫脸.png")
            _console.rule("4. Search a gallery of artwork that the model has never seen")
            _search(clip)
            photographs = [sample(name) for name in PHOTOGRAPHS]
            images, texts = clip.embed_images(photographs), clip.embed_texts(list(_TEXTS))
        _console.rule("5. Ask over HTTP, as OpenAI's clients do")
        _ask_over_http(server.grpc_url)
    _console.rule("6. Verify: compare the served vectors with the reference implementation")
    _print_difference("images", images, _reference_images(checkpoint, photographs))
    _print_difference("texts", texts, _reference_texts(checkpoint, list(_TEXTS)))
    _console.print(
        "The server has stopped. `make serve` starts it again, and in another terminal this command gets a vector:"
    )
    _console.print(_curl(f"http://127.0.0.1:{_HTTP_PORT}"), soft_wrap=True, markup=False, highlight=False)


def _ask_over_http(url: str) -> None:
    """Print a curl command that asks for an embedding, run it, and print the beginning of the response."""
    with EdgeThread(EdgeOptions(url=url, port=0, access_log=False)) as edge:
        line = _curl(edge.address)
        _console.print(f"$ {line}", soft_wrap=True, markup=False, highlight=False)
        if shutil.which("curl") is None:
            _console.print("curl is not installed here")
            return
        command = [*shlex.split(line), "--silent", "--show-error", "--fail-with-body", "--max-time", "30"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if answer.returncode:
            raise ServeError(f"curl ended with code {answer.returncode}: {answer.stderr}{answer.stdout}")
        _console.print(f"{answer.stdout[:100]}...", soft_wrap=True, markup=False, highlight=False)


def _curl(address: str) -> str:
    body = '{"input": ["一只猫"]}'
    return f"curl {address}/v1/embeddings -H 'Content-Type: application/json' -d '{body}'"


def _compare(clip: Client, picture: Path) -> None:
    scores = clip.similarity(images=[picture], texts=list(_TEXTS))
    table = Table(title=_here(picture), title_justify="left")
    for column in ("text", "cosine", "probability"):
        table.add_column(column, justify="left" if column == "text" else "right")
    for index in np.argsort(-scores.cosine[0]):
        table.add_row(_TEXTS[index], f"{scores.cosine[0, index]:.3f}", f"{scores.probabilities[0, index]:.1%}")
    _console.print(table)


def _search(clip: Client) -> None:
    pictures = sorted(GALLERY.glob("*.png"))
    gallery = clip.embed_images(pictures)
    cosines = clip.embed_texts(list(EVERYDAY_WORDS)) @ gallery.T
    table = Table(title=f"{len(pictures)} pictures", title_justify="left")
    table.add_column("query")
    for place in range(1, _SHOWN + 1):
        table.add_column(f"{place}.")
    rows = []
    for word, row in zip(EVERYDAY_WORDS, cosines, strict=True):
        best = np.argsort(-row, kind="stable")[:_SHOWN]
        table.add_row(word, *[f"{pictures[index].stem} {row[index]:.2f}" for index in best])
        rows.append((word, [(pictures[index], float(row[index])) for index in best]))
    _console.print(table)
    write_results(_RESULTS, rows)
    _console.print(f"The same as a picture: {_RESULTS}")


def _here(path: Path) -> str:
    """Return a path relative to the working directory, or unchanged if the path lies elsewhere."""
    return os.path.relpath(path)


def _print_difference(kind: str, served: NDArray[np.float32], reference: NDArray[np.float32]) -> None:
    _console.print(
        f"{kind}: largest difference in one component {np.abs(served - reference).max():.1e} (allowed: 1e-5)"
    )


def _reference_images(checkpoint: Checkpoint, paths: list[Path]) -> NDArray[np.float32]:
    """Embed images with transformers, on pixels that Pillow resized, without any code of the server."""
    rules = checkpoint.preprocessing
    pixels = np.stack([reference_pixels(path.read_bytes(), rules) for path in paths])
    processor = checkpoint.reference.image_processor
    return _unit(checkpoint.reference.embed_images(normalised(torch.from_numpy(pixels), processor)))


def _reference_texts(checkpoint: Checkpoint, texts: list[str]) -> NDArray[np.float32]:
    """Embed texts one at a time with transformers' tokenizer and model."""
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
