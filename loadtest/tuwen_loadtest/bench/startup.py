"""Measure the start time and the memory of a server, by model size: ``python -m tuwen_loadtest.bench.startup``.

For every size and precision, a repository with random weights is built, and a server is started with it three times.
The build of a large model takes minutes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tuwen_build.repository import BuildOptions, build_repository
from tuwen_build.seeded import BASE_PATCH16, HUGE_PATCH14, LARGE_PATCH14, TINY, write_seeded_checkpoint
from tuwen_build.transformers_logging import quiet_transformers
from tuwen_loadtest._usage import usage_of
from tuwen_repository.environment import keep_freed_memory
from tuwen_server import EmbeddedServer, ServerOptions, guarded_folder
from tuwen_server.signals import stop_on_signals

__all__ = ["main"]

_SIZES = {"tiny": TINY, "ViT-B/16": BASE_PATCH16, "ViT-L/14": LARGE_PATCH14, "ViT-H/14": HUGE_PATCH14}
_STARTS = 3
_MIB = 1 << 20


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the starts, and print each line of the table as soon as it is complete."""
    parser = argparse.ArgumentParser(prog="python -m tuwen_loadtest.bench.startup", description=__doc__)
    parser.add_argument(
        "sizes", nargs="*", help=f"model sizes to measure ({', '.join(_SIZES)}; default: ViT-B/16 and ViT-L/14)"
    )
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "int8"])
    parsed = parser.parse_args(arguments)
    quiet_transformers()
    keep_freed_memory()
    sys.stdout.write("| | weights, MiB | ready after, s | memory, MiB |\n|---|---|---|---|\n")
    for size in parsed.sizes or ["ViT-B/16", "ViT-L/14"]:
        with stop_on_signals(), guarded_folder() as folder:
            checkpoint = write_seeded_checkpoint(folder / "checkpoint", _SIZES[size])
            for precision in parsed.precisions:
                repository = folder / precision
                build_repository(str(checkpoint), repository, BuildOptions(precision=precision))
                weights = sum(path.stat().st_size for path in repository.rglob("model.pt")) / _MIB
                starts = [_start(repository) for _ in range(_STARTS)]
                ready, memory = (statistics.median(values) for values in zip(*starts, strict=True))
                sys.stdout.write(f"| {size}, {precision} | {weights:.0f} | {ready:.1f} | {memory:.0f} |\n")
                sys.stdout.flush()


def _start(repository: Path) -> tuple[float, float]:
    """Start a server. Return the seconds until it is ready, and its memory in MiB."""
    begun = time.perf_counter()
    with EmbeddedServer(repository, ServerOptions.on_free_ports()) as server:
        return time.perf_counter() - begun, usage_of(server.pid).memory_mib


if __name__ == "__main__":
    main()
