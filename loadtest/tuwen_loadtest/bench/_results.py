"""What a run found, as plain data: for the report, and for whoever compares runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuwen_loadtest._machine import cpu_flags, processor, versions
from tuwen_loadtest.bench._contestants import Service

__all__ = ["Results", "machine"]

_LIBRARIES = ("tuwen", "torch", "transformers", "tokenizers", "pillow", "numpy", "nvidia-pytriton", "tritonclient")


@dataclass(frozen=True)
class Results:
    """Everything.

    Attributes:
        machine: hardware and versions.
        limits: by precision: the encoder alone, as `_loops.encoder` tells it.
        services: by precision and kind.
        cosines: by precision and kind: the worst against fp32, over the work.
        peers: by name: items a second of ``images``, ``texts`` and maybe ``texts padded to 52``.
        decoding: images a second on one core, by way and size.
    """

    machine: Mapping[str, str]
    limits: Mapping[str, Mapping[str, Mapping[str, float]]]
    services: Mapping[str, Mapping[str, Service]]
    cosines: Mapping[str, Mapping[str, float]]
    peers: Mapping[str, Mapping[str, float]]
    decoding: Mapping[str, Mapping[str, float]]

    def limit(self, precision: str, kind: str) -> float:
        """The most that the encoder alone does, over all batch sizes, in items a second."""
        return max(self.limits[precision][kind].values())

    def encoder_seconds(self, precision: str, kind: str) -> float:
        """The encoder alone, for one item."""
        return 1 / self.limits[precision][kind]["1"]

    def best_peer(self, kind: str) -> float:
        """Items a second of the fastest peer as it comes."""
        return max(peer[kind] for peer in self.peers.values() if kind in peer)

    def write(self, path: Path) -> None:
        """As JSON, with every single latency."""
        content: dict[str, Any] = asdict(self)
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def machine(threads: int) -> dict[str, str]:
    """Hardware and versions."""
    flags = cpu_flags()
    units = [name for name, flag in (("AMX", "amx_tile"), ("AVX-512", "avx512f"), ("AVX2", "avx2")) if flag in flags]
    return {
        "processor": f"{processor()} ({', '.join(units)})",
        "cores": f"{os.cpu_count()}, of which every contestant computes on {threads}",
        **versions(_LIBRARIES),
    }
