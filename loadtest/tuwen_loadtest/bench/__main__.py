"""Build a model, measure the service and other software with it, and write a report.

This is the entry point of ``python -m tuwen_loadtest.bench``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import BertTokenizer, ChineseCLIPImageProcessorPil, ChineseCLIPProcessor

from tuwen_build.hardware import choose_precision
from tuwen_build.options import BuildOptions, Precision
from tuwen_build.repository import build_repository
from tuwen_build.seeded import BASE_PATCH16, TINY, write_seeded_checkpoint
from tuwen_build.transformers_logging import quiet_transformers
from tuwen_loadtest.bench._decode import measure_decoding
from tuwen_loadtest.bench._litserve import litserve
from tuwen_loadtest.bench._loop import Loop, write_work
from tuwen_loadtest.bench._priority import measure_beside_jobs
from tuwen_loadtest.bench._report import write_report
from tuwen_loadtest.bench._results import KINDS, Results, machine
from tuwen_loadtest.bench._rounds import Ours, Plan, compare, curves
from tuwen_loadtest.bench._service import service
from tuwen_loadtest.bench._waits import measure_waits
from tuwen_loadtest.bench.interactive import measure_interactive
from tuwen_repository.environment import keep_freed_memory
from tuwen_server import guarded_folder
from tuwen_server.signals import stop_on_signals
from tuwen_server.traffic import CALLERS, Work, photographs, queries
from tuwen_server.tuning import ENCODERS, Settings, apply, limit_waiting

__all__ = ["main"]

_PATIENCE = 2  # a request may wait twice as long as under saturation, and at least one second
_SERVED = (4, 8, 16, 32)
"""The sizes of batches that a busy service forms."""
_CALLS = 200
"""The number of calls of each kind that a single caller makes."""
_MODELS = {
    "base": ("Chinese-CLIP ViT-B/16, seeded random weights", BASE_PATCH16),
    "tiny": ("a tiny Chinese-CLIP", TINY),
}
_console = Console(stderr=True)


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tuwen_loadtest.bench", description=__doc__)
    parser.add_argument(
        "--model", choices=list(_MODELS), default="base", help="size of the model: ViT-B/16, or tiny (default: base)"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="number of threads that each measured program computes with (default: 1)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="number of rounds; each program is measured once per round (default: 3)"
    )
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="duration of each measurement in seconds (default: 5)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(".cache/bench"), help="folder for the report (default: .cache/bench)"
    )
    arguments = parser.parse_args()
    quiet_transformers()
    keep_freed_memory()
    name, dimensions = _MODELS[arguments.model]
    plan = Plan(arguments.rounds, arguments.seconds, arguments.threads)
    work = Work(photographs(32), queries(int(20_000 * max(1, plan.rounds) * max(5.0, plan.seconds) / 3)))
    with stop_on_signals(), guarded_folder() as folder:
        checkpoint = write_seeded_checkpoint(folder / "checkpoint", dimensions)
        _complete_for_peers(checkpoint, dimensions)
        results = _measure(checkpoint, _build(checkpoint), work, plan)
    write_report(name, results, arguments.output)
    sys.stdout.write((arguments.output / "report.md").read_text(encoding="utf-8"))


def _build(checkpoint: Path) -> Mapping[str, Path]:
    repositories: dict[str, Path] = {}
    for precision in _precisions():
        _console.print(f"{precision}: building")
        repositories[precision] = checkpoint.with_name(precision)
        build_repository(str(checkpoint), repositories[precision], BuildOptions(precision=precision))
    return repositories


def _precisions() -> Sequence[Precision]:
    """Return the precisions to measure. bf16 is left out on a processor without instructions for bf16."""
    if torch.cuda.is_available():
        return "fp32", "bf16", "fp16"
    choice = choose_precision()
    if choice.precision == "bf16":
        return "fp32", "bf16", "int8"
    _console.print(f"without bf16: {choice.reason}")
    return "fp32", "int8"


def _measure(checkpoint: Path, repositories: Mapping[str, Path], work: Work, plan: Plan) -> Results:
    work_file = checkpoint.with_name("work.json")
    write_work(Work(work.images, work.texts[:256]), work_file)
    with ExitStack() as stack:
        ours, found = {}, {}
        for precision, repository in repositories.items():
            _console.print(f"measuring the encoder alone, by batch size, in {precision}")
            encoder = stack.enter_context(Loop("encoder", repository, work_file, plan.threads))
            found[precision] = curves(encoder, plan)
            best = {kind: max(_SERVED, key=lambda size: found[precision][kind][size].rate) for kind in KINDS}
            _settle(repository, {kind: found[precision][kind][best[kind]].rate for kind in KINDS}, plan)
            ours[precision] = Ours(encoder, best, stack.enter_context(service(repository, work)))
        vectors = {precision: mine.service.vectors() for precision, mine in ours.items()}
        _console.print("starting the other software")
        loops = {
            name: stack.enter_context(Loop(name, checkpoint, work_file, plan.threads))
            for name in ("transformers", "sentence-transformers")
        }
        server = stack.enter_context(litserve(checkpoint, work, plan.threads))
        rounds, peers = compare(ours, loops, server, plan, _console.print)
    _console.print("measuring the decoding of images")
    cosines = {
        precision: {
            kind: float((mine * exact).sum(1).min())
            for kind, mine, exact in zip(KINDS, vectors[precision], vectors["fp32"], strict=True)
        }
        for precision in repositories
    }
    starts = {precision: mine.service.start for precision, mine in ours.items()}
    decoding = measure_decoding(plan.seconds / 2)
    _console.print("measuring one caller without and with bulk jobs")
    tiny = _build_tiny(checkpoint.with_name("tiny"))
    waits, beside_jobs = measure_waits(tiny, _CALLS), measure_beside_jobs(tiny, _CALLS)
    _console.print("measuring bursts, and interactive calls during a bulk stream")
    bursts, beside_streams = measure_interactive(list(repositories.values())[-1], plan.seconds)
    return Results(
        machine(plan.threads),
        found,
        starts,
        rounds,
        cosines,
        peers,
        decoding,
        waits,
        beside_jobs,
        bursts,
        beside_streams,
    )


def _build_tiny(folder: Path) -> Path:
    """Build a repository with default options and a tiny model, whose computation takes almost no time."""
    repository = folder / "repository"
    build_repository(str(write_seeded_checkpoint(folder / "checkpoint", TINY)), repository, BuildOptions())
    return repository


def _settle(repository: Path, rates: Mapping[str, float], plan: Plan) -> None:
    """Configure a repository: one instance of each encoder, the threads of the plan, and short queues."""
    for kind in ENCODERS:
        apply(repository, kind, Settings(instances=1, threads=plan.threads, delay_microseconds=100))
    limit_waiting(repository, {kind: max(1.0, _PATIENCE * CALLERS[kind] / rate) for kind, rate in rates.items()})


def _complete_for_peers(checkpoint: Path, dimensions: dict[str, Any]) -> None:
    """Write the preprocessor configuration that transformers needs. It holds the defaults of our build."""
    side = dimensions["vision_config"].get("image_size", 224)
    images = ChineseCLIPImageProcessorPil(size={"height": side, "width": side}, do_center_crop=False)
    processor: Any = ChineseCLIPProcessor
    processor(images, BertTokenizer(str(checkpoint / "vocab.txt"))).save_pretrained(checkpoint)


if __name__ == "__main__":
    main()
