"""Check the encoders and the service on an NVIDIA GPU: ``python -m tuwen_loadtest.gpu_check``.

The report has a table and plots.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from tuwen_build.hardware import gpu_without_cuda
from tuwen_build.options import BuildOptions, Precision
from tuwen_build.repository import build_repository
from tuwen_build.seeded import BASE_PATCH16, LARGE_PATCH14, TINY, write_seeded_checkpoint
from tuwen_build.transformers_logging import quiet_transformers
from tuwen_loadtest._machine import processor, versions
from tuwen_loadtest.gpu_check._encoders import Encoders, exactness, sample_inputs
from tuwen_loadtest.gpu_check._report import write_report
from tuwen_loadtest.gpu_check._results import Found, Results
from tuwen_loadtest.gpu_check._served import decode_images, measure_served
from tuwen_repository.container_limits import usable_cores
from tuwen_repository.environment import TF32_SETTINGS
from tuwen_server.traffic import Work, photographs, queries

__all__ = ["check", "main"]

_MODELS = {"ViT-B/16": BASE_PATCH16, "ViT-L/14": LARGE_PATCH14, "tiny": TINY}
_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
_KINDS = ("images", "texts")
_COMPARED = 32
"""The number of items that are compared with the CPU, and the largest batch."""
_LIBRARIES = ("tuwen", "torch", "tritonclient")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check. Return the exit code: 0 if the vectors of every precision are exact enough, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tuwen_loadtest.gpu_check", description=__doc__)
    parser.add_argument(
        "--device",
        choices=["cuda", "cpu"],
        default="cuda",
        help="device to check; cpu: try the check without a GPU (default: cuda)",
    )
    parser.add_argument(
        "--models",
        nargs="+",
        choices=list(_MODELS),
        default=["ViT-B/16", "ViT-L/14"],
        help="sizes of models to check (default: ViT-B/16 ViT-L/14)",
    )
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=_PRECISIONS,
        default=list(_PRECISIONS),
        help="precisions to check (default: all)",
    )
    parser.add_argument(
        "--instances",
        nargs="+",
        type=int,
        default=[1, 2, 3],
        help="numbers of instances of each encoder to measure (default: 1 2 3)",
    )
    parser.add_argument(
        "--batches", nargs="+", type=int, default=[1, 8, 32], help="batch sizes to measure (default: 1 8 32)"
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="duration of each measurement in seconds (default: 3)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(".cache/gpu-check"),
        help="folder for the report (default: .cache/gpu-check)",
    )
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        why = gpu_without_cuda() or "this machine has no NVIDIA GPU"
        parser.error(f"cannot check a GPU: {why}; --device cpu tries the check itself")
    os.environ.update(TF32_SETTINGS)  # CUDA reads these variables when it starts, which is later
    quiet_transformers()
    results = check(
        {name: _MODELS[name] for name in chosen.models},
        chosen.precisions,
        device=chosen.device,
        instances=chosen.instances,
        batches=chosen.batches,
        seconds=chosen.seconds,
    )
    write_report(results, chosen.output)
    sys.stdout.write((chosen.output / "report.md").read_text(encoding="utf-8"))
    return 0 if results.exact else 1


def check(
    models: Mapping[str, dict[str, object]],
    precisions: Sequence[Precision],
    *,
    device: str,
    instances: Sequence[int],
    batches: Sequence[int],
    seconds: float,
) -> Results:
    """Build, compare, measure and serve every model in every precision.

    Args:
        models: the sizes of the models by name, as arguments of `ChineseCLIPConfig`.
        precisions: the precisions to build.
        device: ``cuda`` or ``cpu``.
        instances: the numbers of instances of each encoder to measure.
        batches: the batch sizes to measure without a server, at most 32.
        seconds: the duration of each measurement.
    """
    cores = usable_cores()
    work = Work(photographs(16), queries(200_000))
    found: dict[str, dict[str, Found]] = {}
    decode_seconds = 0.0
    for name, dimensions in models.items():
        with tempfile.TemporaryDirectory(prefix="tuwen-gpu-check-") as scratch:
            folder = Path(scratch)
            checkpoint = write_seeded_checkpoint(folder / "checkpoint", dimensions)
            reference = folder / "fp32"
            _say(f"{name}: building fp32")
            build_repository(str(checkpoint), reference, BuildOptions(precision="fp32"))
            inputs = sample_inputs(reference, _COMPARED)
            on_cpu = Encoders(reference, "cpu")
            expected = {kind: on_cpu.vectors(kind, inputs[kind], batch=8) for kind in _KINDS}
            decode_seconds = decode_images(reference, work.images)[1]
            found[name] = {}
            for precision in precisions:
                repository = folder / precision
                if precision != "fp32":
                    _say(f"{name}: building {precision}")
                    build_repository(str(checkpoint), repository, BuildOptions(precision=precision))
                _say(f"{name}, {precision}: measuring the encoders on {device}")
                encoders = Encoders(repository, device)
                exact = {
                    kind: exactness(
                        encoders.vectors(kind, inputs[kind], batch=8), expected[kind], precision, _depth(dimensions)
                    )
                    for kind in _KINDS
                }
                rates = {
                    kind: {batch: encoders.rate(kind, inputs[kind], batch=batch, seconds=seconds) for batch in batches}
                    for kind in _KINDS
                }
                del encoders
                if device == "cuda":
                    torch.cuda.empty_cache()
                served = []
                for count in instances:
                    _say(f"{name}, {precision}: measuring a server with {count} instances of each encoder")
                    served.append(measure_served(repository, work, instances=count, cores=cores, seconds=seconds))
                found[name][precision] = Found(exact, rates, served)
    card = torch.cuda.get_device_name() if device == "cuda" else processor()
    return Results(card, cores, decode_seconds * 1e3, versions(_LIBRARIES), found)


def _depth(dimensions: Mapping[str, object]) -> int:
    """Return the number of layers of the deeper tower. A tower without a number has 12, transformers' default."""
    towers = [dimensions[tower] for tower in ("vision_config", "text_config")]
    return max(int(tower.get("num_hidden_layers", 12)) for tower in towers if isinstance(tower, dict))


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
