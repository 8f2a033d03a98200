"""The results of a check, as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Exactness", "Found", "Results", "Served"]


@dataclass(frozen=True)
class Exactness:
    """The difference between vectors of the device and fp32 vectors of the CPU.

    Attributes:
        max_abs: the largest difference in a component.
        min_cosine: the smallest cosine of a vector with its reference.
        within: whether the bound of the precision is kept.
    """

    max_abs: float
    min_cosine: float
    within: bool


@dataclass(frozen=True)
class Served:
    """Measurements of the embedded server with a number of instances of each encoder.

    Attributes:
        instances: the number of instances.
        jpeg_rate: images per second from JPEG bytes, with many callers.
        pixel_rate: images per second from prepared pixels, with many callers.
        text_rate: texts per second, with many callers.
        alone_seconds: the median time of a call with one JPEG, without other calls.
        decode_share: the share of all cores' time that decoding takes at `jpeg_rate`.
        device_mib: the server's memory on the device; None: unknown.
        host_mib: the memory of the server's processes.
    """

    instances: int
    jpeg_rate: float
    pixel_rate: float
    text_rate: float
    alone_seconds: float
    decode_share: float
    device_mib: float | None
    host_mib: float


@dataclass(frozen=True)
class Found:
    """The results of one model in one precision.

    Attributes:
        exactness: by kind, ``images`` or ``texts``.
        rates: items per second of the encoder alone, by kind and batch size.
        served: one entry for each number of instances.
    """

    exactness: Mapping[str, Exactness]
    rates: Mapping[str, Mapping[int, float]]
    served: Sequence[Served]


@dataclass(frozen=True)
class Results:
    """All results of a check.

    Attributes:
        device: the name of the card, or of the processor.
        cores: the number of cores that this process may use.
        decode_ms: the milliseconds in which one core decodes a photograph of 640×480.
        versions: the versions of the measured software.
        models: the measurements, by the name of the model, then by precision.
    """

    device: str
    cores: int
    decode_ms: float
    versions: Mapping[str, str]
    models: Mapping[str, Mapping[str, Found]]

    @property
    def exact(self) -> bool:
        """Whether every precision of every model keeps its bound."""
        found = [one for model in self.models.values() for one in model.values()]
        return all(exactness.within for one in found for exactness in one.exactness.values())

    def write(self, path: Path) -> None:
        """Write the results as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
