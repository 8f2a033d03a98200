"""``python -m tuwen_loadtest.bench``: builds, measures everything on the same work, and writes a report."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from transformers import BertTokenizer, ChineseCLIPImageProcessorPil, ChineseCLIPProcessor

from tuwen import Client
from tuwen_build.allocation import keep_freed_memory
from tuwen_build.encoders import Precision
from tuwen_build.options import BuildOptions
from tuwen_build.quiet import quiet_transformers
from tuwen_build.repository import build_repository
from tuwen_build.seeded import BASE_PATCH16, TINY, write_seeded_checkpoint
from tuwen_build.server import EmbeddedServer, ServerOptions
from tuwen_build.traffic import CALLERS, Work, photographs, queries
from tuwen_build.tuning import ENCODERS, Settings, apply, limit_waiting
from tuwen_loadtest.bench._contestants import Plan, Service, measure_litserve, measure_service, run_loop, write_work
from tuwen_loadtest.bench._decode import measure_decoding
from tuwen_loadtest.bench._report import write_report
from tuwen_loadtest.bench._results import Results, machine

__all__ = ["main"]

_PATIENCE = 2  # what waits so many times longer than under saturation, and a second, is refused
_MODELS = {
    "base": ("Chinese-CLIP ViT-B/16, seeded random weights", BASE_PATCH16),
    "tiny": ("a tiny Chinese-CLIP", TINY),
}
_console = Console(stderr=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m tuwen_loadtest.bench", description=__doc__)
    parser.add_argument("--model", choices=list(_MODELS), default="base")
    parser.add_argument("--threads", type=int, default=1, help="that each contestant computes with (default: 1)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement (default: 10)")
    parser.add_argument("--output", type=Path, default=Path(".cache/bench"), help="where the report goes")
    arguments = parser.parse_args()
    quiet_transformers()
    keep_freed_memory()
    name, dimensions = _MODELS[arguments.model]
    plan = Plan(arguments.seconds, min(5.0, arguments.seconds / 2), arguments.threads)
    work = Work(photographs(32), queries(int(20_000 * max(5.0, arguments.seconds))))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_seeded_checkpoint(Path(folder) / "checkpoint", dimensions)
        _complete_for_peers(checkpoint, dimensions)
        results = _measure(checkpoint, _build(checkpoint), work, plan)
    write_report(name, results, arguments.output)
    sys.stdout.write((arguments.output / "report.md").read_text(encoding="utf-8"))


def _build(checkpoint: Path) -> Mapping[Precision, Path]:
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "fp16" if torch.cuda.is_available() else "int8")
    repositories = {precision: checkpoint.with_name(precision) for precision in precisions}
    for precision, repository in repositories.items():
        _console.print(f"{precision}: building")
        build_repository(str(checkpoint), repository, BuildOptions(precision=precision))
    return repositories


def _measure(checkpoint: Path, repositories: Mapping[Precision, Path], work: Work, plan: Plan) -> Results:
    work_file = checkpoint.with_name("work.json")
    write_work(Work(work.images, work.texts[:256]), work_file)
    limits: dict[str, Any] = {}
    services: dict[str, Mapping[str, Service]] = {}
    vectors: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    for precision, repository in repositories.items():
        _console.print(f"{precision}: the encoder alone")
        limits[precision] = run_loop("encoder", repository, work_file, plan.threads, plan.seconds / 4)
        for encoder in ENCODERS.values():
            apply(repository, encoder, Settings(instances=1, threads=plan.threads, delay_microseconds=100))
        rates = {kind: max(limits[precision][kind].values()) for kind in ENCODERS}
        patience = {kind: max(1.0, _PATIENCE * CALLERS[kind] / rate) for kind, rate in rates.items()}
        limit_waiting(repository, patience)
        _console.print(f"{precision}: the service")
        services[precision] = measure_service(repository, work, plan)
        vectors[precision] = _vectors(repository, work)
    peers = {}
    for loop in ("transformers", "sentence-transformers"):
        _console.print(f"{loop}: a loop")
        peers[loop] = run_loop(loop, checkpoint, work_file, plan.threads, plan.seconds)
    _console.print("LitServe")
    peers["LitServe"] = {kind: found.rate for kind, found in measure_litserve(checkpoint, work, plan).items()}
    _console.print("decoding")
    decoding = measure_decoding(plan.seconds / 3)
    cosines: dict[str, Mapping[str, float]] = {
        precision: {
            kind: float((found * exact).sum(1).min())
            for kind, found, exact in zip(("images", "texts"), vectors[precision], vectors["fp32"], strict=True)
        }
        for precision in repositories
    }
    return Results(machine(plan.threads), limits, services, cosines, peers, decoding)


def _complete_for_peers(checkpoint: Path, dimensions: dict[str, Any]) -> None:
    """What transformers' processor reads beside the weights; our build takes the same defaults without it."""
    side = dimensions["vision_config"].get("image_size", 224)
    images = ChineseCLIPImageProcessorPil(size={"height": side, "width": side}, do_center_crop=False)
    processor: Any = ChineseCLIPProcessor
    processor(images, BertTokenizer(str(checkpoint / "vocab.txt"))).save_pretrained(checkpoint)


def _vectors(repository: Path, work: Work) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with EmbeddedServer(repository, ServerOptions.on_free_ports()) as server, Client(server.grpc_url) as clip:
        return clip.embed_images(list(work.images)), clip.embed_texts(list(work.texts[:64]))


if __name__ == "__main__":
    main()
