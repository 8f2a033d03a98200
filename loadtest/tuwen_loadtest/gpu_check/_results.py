"""The results of a GPU check, as dataclasses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Exactness", "Found", "Results", "Served"]


@dataclass(frozen=True)
class Exactness:
    """The differences between the vectors of the device and the fp32 vectors of the CPU.

    Attributes:
        max_abs: the largest difference between two components.
        min_cosine: the smallest cosine between a vector and its fp32 vector.
        within: whether the differences are within the bound of the precision.
    """

    max_abs: float
    min_cosine: float
    within: bool


@dataclass(frozen=True)
class Served:
    """The measurements of the embedded server with a number of instances of each encoder.

    Attributes:
        instances: the number of instances of each encoder.
        jpeg_rate: the images per second if many callers send JPEG files.
        pixel_rate: the images per second if many callers send decoded pixels.
        text_rate: the texts per second if many callers send texts.
        alone_seconds: the median time of a call with one JPEG file in seconds, without other callers.
        decode_share: the share of the time of all cores that decoding takes at `jpeg_rate`, from 0 to 1.
        device_mib: the memory of the server on the device in MiB; None: unknown.
        host_mib: the memory of the server's processes on the host in MiB.
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
        exactness: the differences from the fp32 vectors, by kind (``images`` or ``texts``).
        rates: the items per second of the encoder without a server, by kind and batch size.
        served: the measurements of the server, one entry for each number of instances.
    """

    exactness: Mapping[str, Exactness]
    rates: Mapping[str, Mapping[int, float]]
    served: Sequence[Served]


@dataclass(frozen=True)
class Results:
    """All results of a check.

    Attributes:
        device: the name of the GPU, or of the processor.
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
        """Whether the vectors of every model and precision are within the bounds."""
        found = [one for model in self.models.values() for one in model.values()]
        return all(exactness.within for one in found for exactness in one.exactness.values())

    def write(self, path: Path) -> None:
        """Write the results into a JSON file."""
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
