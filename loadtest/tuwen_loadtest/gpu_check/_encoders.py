"""The exported encoders on a device, without a server."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tuwen_build.options import Precision
from tuwen_build.verification.verify import bound
from tuwen_loadtest.gpu_check._results import Exactness
from tuwen_repository.manifest import Manifest

__all__ = ["Encoders", "exactness", "sample_inputs"]

_MODELS = {"images": "vision_encoder", "texts": "text_encoder"}
_TOKENS = 12  # tokens of a query of ten characters, with a start and an end token
_WARMUPS = 3
Inputs = Mapping[str, tuple[Tensor, ...]]


def sample_inputs(repository: Path, count: int) -> Inputs:
    """Return random pixels, and token ids and masks of short queries, as inputs of a repository's encoders."""
    manifest = Manifest.read(repository)
    generator = torch.Generator().manual_seed(0)
    side = manifest.image_size
    pixels = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    ids = torch.randint(1000, 20_000, (count, manifest.context_length), generator=generator)
    mask = (torch.arange(manifest.context_length) < _TOKENS).to(torch.int64).expand(count, -1).contiguous()
    return {"images": (pixels,), "texts": (ids * mask, mask)}


class Encoders:
    """Both encoders of a repository on one device.

    Args:
        repository: a folder that `tuwen build` made.
        device: ``cuda`` or ``cpu``.
    """

    def __init__(self, repository: Path, device: str) -> None:
        self._device = torch.device(device)
        self._modules = {kind: _load(repository / model / "1" / "model.pt", device) for kind, model in _MODELS.items()}

    def vectors(self, kind: str, inputs: Sequence[Tensor], *, batch: int) -> Tensor:
        """Return the vectors of all items as float64 on the host, computed in batches."""
        parts = [torch.split(tensor, batch) for tensor in inputs]
        return torch.cat([self._run(kind, part).cpu().double() for part in zip(*parts, strict=True)])

    def rate(self, kind: str, inputs: Sequence[Tensor], *, batch: int, seconds: float) -> float:
        """Return the items per second of one batch size, with inputs and outputs in the host's memory."""
        part = [tensor[:batch] for tensor in inputs]
        for _ in range(_WARMUPS):
            self._run(kind, part).cpu()
        batches, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds or not batches:
            self._run(kind, part).cpu()
            batches += 1
        return batches * len(part[0]) / elapsed

    def _run(self, kind: str, inputs: Sequence[Tensor]) -> Tensor:
        # Triton runs the encoders with the same setting
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return self._modules[kind](*(tensor.to(self._device) for tensor in inputs))


def exactness(vectors: Tensor, reference: Tensor, precision: Precision, depth: int) -> Exactness:
    """Compare unit vectors (n, D) with fp32 vectors from the CPU. The bound is that of `tuwen build`."""
    allowed = bound(precision, depth)
    difference = vectors - reference
    max_abs = float(difference.abs().max())
    distance = float(difference.norm(dim=-1).max())
    cosine = float(torch.nn.functional.cosine_similarity(vectors, reference).min())
    return Exactness(max_abs, cosine, within=max_abs <= allowed.max_abs and distance <= allowed.distance)


def _load(path: Path, device: str) -> Callable[..., Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch 2.9 deprecates TorchScript
        module: Any = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    return module  # type: ignore[no-any-return]
