"""The recall of the demo's checkpoint on artwork outside its training data, served in every precision.

``python -m tuwen_lab.demo._scores DATASET`` prints the model card's table, from the output of `tuwen dataset emoji`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tuwen import Client
from tuwen_build.options import BuildOptions, Precision
from tuwen_build.repository import build_repository
from tuwen_build.transformers_logging import quiet_transformers
from tuwen_lab.datasets import RetrievalSplit
from tuwen_lab.demo import CHECKPOINT
from tuwen_lab.evaluation import RetrievalReport, embed_split, retrieval_report
from tuwen_server import EmbeddedServer, ServerOptions, guarded_folder
from tuwen_server.signals import stop_on_signals

__all__ = ["main"]

_SPLITS = ("test", "test_openmoji")
_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")


def main() -> None:
    """Print a row for every split and precision, with the difference from fp32 in percentage points."""
    quiet_transformers()
    with stop_on_signals():
        found = {precision: _served(precision, Path(sys.argv[1])) for precision in _PRECISIONS}
    sys.stdout.write(
        "| split | precision | text to image R@1 | R@5 | R@10 | image to text R@1 | R@5 | R@10 |\n" + "|---" * 8 + "|\n"
    )
    for split in _SPLITS:
        exact = list(_numbers(found["fp32"][split]))
        for precision in _PRECISIONS:
            cells = [
                f"{number:.1f}" + ("" if precision == "fp32" else f" ({number - best:+.1f})")
                for number, best in zip(_numbers(found[precision][split]), exact, strict=True)
            ]
            sys.stdout.write(f"| {split} | {precision} | {' | '.join(cells)} |\n")


def _served(precision: Precision, dataset: Path) -> dict[str, RetrievalReport]:
    """Return the retrieval reports of the splits, from a server with a repository of one precision."""
    with guarded_folder() as folder:
        repository = folder / "repository"
        build_repository(str(CHECKPOINT), repository, BuildOptions(precision=precision, image_rules="display"))
        with (
            EmbeddedServer(repository, ServerOptions.on_free_ports()) as server,
            Client(server.grpc_url) as clip,
        ):
            reports = {}
            for name in _SPLITS:
                split = RetrievalSplit(dataset, name)
                images, texts = embed_split(clip, split, progress=True)
                reports[name] = retrieval_report(images, texts, split.truths())
            return reports


def _numbers(report: RetrievalReport) -> Iterator[float]:
    for recall in (report.text_to_image, report.image_to_text):
        yield from (recall.r1, recall.r5, recall.r10)


if __name__ == "__main__":
    main()
