"""Measure the table of docs/guides/bulk.md: the share of the best vectors that a search in quantized vectors finds.

python -m tests.quantization_table                          # the demo's pictures, with their names as queries
python -m tests.quantization_table vectors.npz queries.npz  # vectors in files that `tuwen embed` wrote
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from tests.support.artefacts import Artefacts
from tests.support.paths import CACHE, GALLERY
from tests.support.repositories import demo_repository
from tuwen import Client
from tuwen_files import EmbeddingTable
from tuwen_files.quantization import Quantization, quantize
from tuwen_server import EmbeddedServer, ServerOptions

__all__ = ["best", "recall", "scores"]

Vectors = NDArray[np.float32]


def scores(form: Quantization, queries: Vectors, vectors: Vectors) -> Vectors:
    """Return the similarity of each query and each vector after both are quantized; higher is more similar."""
    small, others = quantize(queries, form), quantize(vectors, form)
    if form in ("binary", "ubinary"):
        bits, other_bits = (np.unpackbits(array.view(np.uint8), axis=1).astype(np.float32) for array in (small, others))
        return bits @ other_bits.T + (1 - bits) @ (1 - other_bits).T  # the number of components with equal signs
    centre = 128 if form == "uint8" else 0
    rows, other_rows = (array.astype(np.float32) - centre for array in (small, others))
    rows, other_rows = (array / np.linalg.norm(array, axis=1, keepdims=True) for array in (rows, other_rows))
    return np.float32(rows @ other_rows.T)


def best(found: Vectors, count: int) -> NDArray[np.intp]:
    """Return the positions of the `count` highest scores of each row, the highest first."""
    return np.argsort(-found, axis=1, kind="stable")[:, :count]


def recall(expected: NDArray[np.intp], found: NDArray[np.intp]) -> float:
    """Return the share of the expected positions that were found, in the mean of all rows."""
    shares = [np.isin(wanted, row).mean() for wanted, row in zip(expected, found, strict=True)]
    return float(np.mean(shares))


def rescored(candidates: NDArray[np.intp], exact: Vectors, count: int) -> NDArray[np.intp]:
    """Return the `count` best candidates of each row by their exact scores."""
    order = best(np.take_along_axis(exact, candidates, axis=1), count)
    return np.take_along_axis(candidates, order, axis=1)


def demo() -> tuple[Vectors, Vectors]:
    """Return the vectors of the demo's pictures, and the vectors of the pictures' names."""
    pictures = sorted(GALLERY.glob("*.png"))
    repository = demo_repository(Artefacts(CACHE / "artefacts"))
    with EmbeddedServer(repository, ServerOptions.on_free_ports()) as server, Client(server.grpc_url) as clip:
        return clip.embed_images(pictures), clip.embed_texts([path.stem for path in pictures])


def main() -> None:
    """Measure each form of quantized vectors, and print the table."""
    tables = [EmbeddingTable.load(path).embeddings for path in sys.argv[1:3]]
    vectors, queries = (tables[0], tables[1]) if tables else demo()
    exact = np.float32(queries @ vectors.T)
    expected, length = best(exact, 10), vectors.shape[1]
    print(f"{len(vectors)} vectors of {length} components, {len(queries)} queries\n")
    print("| form | bytes per vector | recall at 10 | with the 40 best ordered by float32 |\n|---|---|---|---|")
    for form in ("int8", "binary"):
        candidates = best(scores(form, queries, vectors), 40)
        plain, ordered = recall(expected, candidates[:, :10]), recall(expected, rescored(candidates, exact, 10))
        print(f"| `{form}` | {length if form == 'int8' else -(-length // 8)} | {plain:.3f} | {ordered:.3f} |")


if __name__ == "__main__":
    main()
