"""Measure the tables of docs/concepts/precision.md: deviation from the float32 reference, and size on disk.

    python -m tests.precision_table              # every family, at published dimensions: half an hour on two cores
    python -m tests.precision_table RN50 H/14    # rows whose name contains one of these words
    python -m tests.precision_table --sizes      # only the sizes of the encoders on disk, which need no build

All weights except the demo's are random and seeded. The deviation of a trained checkpoint differs, so each build
measures its own deviation and writes it into ``manifest.json``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.artefacts import Artefacts
from tests.support.checkpoints import TextSizes, VisionSizes, write_from_cn_clip, write_openai_clip, write_taiyi
from tests.support.originals import Originals, originals_of
from tuwen_build.checkpoints import open_checkpoint
from tuwen_build.explanation import explain
from tuwen_build.options import PRECISIONS
from tuwen_build.repository import BuildOptions, ReadOptions, build_repository
from tuwen_build.transformers_logging import quiet_transformers
from tuwen_lab.demo import CHECKPOINT
from tuwen_repository.manifest import Manifest

BASE, LARGE = "RoBERTa-wwm-ext-base-chinese", "RoBERTa-wwm-ext-large-chinese"
L14 = VisionSizes(1024, 24, 16, 14)


@dataclass(frozen=True)
class Row:
    """A row of the tables: a checkpoint at its published dimensions.

    Attributes:
        name: the name in the first column.
        write: a function that writes the checkpoint into a folder and returns its path.
        write_vision: a function that writes the checkpoint for ``--vision``; None: the checkpoint needs none.
    """

    name: str
    write: Callable[[Path, Originals], Path]
    write_vision: Callable[[Path, Originals], Path] | None = None


def _native(name: str, vision: str, text: str) -> Row:
    return Row(name, lambda folder, originals: write_from_cn_clip(originals, folder, "native", vision, text))


def _openai(name: str, vision: VisionSizes, text: TextSizes, dimension: int) -> Row:
    return Row(name, _clip("checkpoint", vision, text, dimension))


def _taiyi(name: str, text: TextSizes, vision: VisionSizes, dimension: int, head: int | None = None) -> Row:
    return Row(
        name,
        lambda folder, _: write_taiyi(folder / "checkpoint", text, head),
        _clip("vision", vision, TextSizes(512, 1, 8), dimension),
    )


def _clip(name: str, vision: VisionSizes, text: TextSizes, dimension: int) -> Callable[[Path, Originals], Path]:
    return lambda folder, originals: write_openai_clip(
        folder / name, vision, text, dimension, originals.clip_vocabulary()
    )


ROWS = (
    _native("Chinese-CLIP RN50", "RN50", "RBT3-chinese"),
    _native("Chinese-CLIP ViT-B/16", "ViT-B-16", BASE),
    _native("Chinese-CLIP ViT-L/14", "ViT-L-14", BASE),
    _native("Chinese-CLIP ViT-L/14 336", "ViT-L-14-336", BASE),
    _native("Chinese-CLIP ViT-H/14", "ViT-H-14", LARGE),
    _openai("OpenAI CLIP ViT-B/32", VisionSizes(768, 12, 12, 32), TextSizes(512, 12, 8), 512),
    _openai("OpenAI CLIP ViT-B/16", VisionSizes(768, 12, 12, 16), TextSizes(512, 12, 8), 512),
    _openai("OpenAI CLIP ViT-L/14", L14, TextSizes(768, 12, 12), 768),
    _openai("OpenAI CLIP ViT-L/14 336", replace(L14, image=336), TextSizes(768, 12, 12), 768),
    _taiyi("Taiyi 102M ViT-B/32", TextSizes(768, 12, 12), VisionSizes(768, 12, 12, 32), 512, 512),
    _taiyi("Taiyi 102M ViT-L/14", TextSizes(768, 12, 12), L14, 768),
    _taiyi("Taiyi 326M ViT-L/14", TextSizes(1024, 24, 16), L14, 768, 768),
    Row("the demo's, trained", lambda _, __: CHECKPOINT),
)


def main() -> None:
    """Measure the rows that the command line names, and print each line at once."""
    quiet_transformers()
    words = [word for word in sys.argv[1:] if word != "--sizes"]
    measure = _print_sizes if "--sizes" in sys.argv[1:] else _print_deviations
    rows = [row for row in ROWS if not words or any(word in row.name for word in words)]
    with originals_of(Artefacts()) as originals:
        for row in rows:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                vision = row.write_vision and str(row.write_vision(folder, originals))
                measure(row.name, str(row.write(folder, originals)), ReadOptions(vision=vision), folder)


def _print_sizes(name: str, checkpoint: str, read_options: ReadOptions, _: Path) -> None:
    explanation = explain(open_checkpoint(checkpoint, read_options))
    parameters = (explanation.vision.parameters + explanation.text.parameters) / 1e6
    sizes = [f"{(explanation.vision.bytes[kind] + explanation.text.bytes[kind]) / 1e6:.0f}" for kind in PRECISIONS]
    print(f"| {name} | {parameters:.1f} M | {' | '.join(sizes)} |", flush=True)


def _print_deviations(name: str, checkpoint: str, read_options: ReadOptions, folder: Path) -> None:
    for precision in PRECISIONS:
        started = time.monotonic()
        output, options = folder / "repository", BuildOptions(precision=precision)
        manifest = build_repository(checkpoint, output, options, read_options=read_options, force=True)
        size = sum(path.stat().st_size for path in output.rglob("model.pt"))
        seconds = time.monotonic() - started
        print(f"| {name} | {precision} | {_deviations(manifest)} | {size / 1e6:.0f} MB | {seconds:.0f} s |", flush=True)


def _deviations(manifest: Manifest) -> str:
    return " | ".join(
        f"{deviation.min_cosine:.6f}, {deviation.max_abs:.0e}"
        for deviation in (manifest.image_deviation, manifest.text_deviation)
    )


if __name__ == "__main__":
    main()
