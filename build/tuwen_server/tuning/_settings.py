"""What is tried: how many instances of an encoder, with how many threads, that wait how long for a fuller batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["DELAYS", "ENCODERS", "PREPROCESSING", "Settings", "layouts"]

ENCODERS: Mapping[str, str] = {"images": "vision_encoder", "texts": "text_encoder"}
PREPROCESSING: Mapping[str, str] = {"images": "image_preprocessing", "texts": "text_tokenization"}
DELAYS = (100, 2_000, 10_000)  # microseconds; less than 100 has its price on tritonserver 2.51, see the configs
_MOST_INSTANCES = 8


@dataclass(frozen=True)
class Settings:
    """How one encoder is run.

    Attributes:
        instances: copies that compute at the same time.
        threads: of each on the CPU; 0: as many as torch takes, and on a GPU, where it does not matter.
        delay_microseconds: how long a request waits for others while an instance is free.
    """

    instances: int
    threads: int
    delay_microseconds: int


def layouts(cores: int, *, on_gpu: bool) -> Sequence[tuple[int, int]]:
    """Instances and threads of each: all of a CPU's cores in every split, or one instance on a GPU.

    Several instances on a GPU are not tried: here each is a process with a CUDA context of its own, and in NVIDIA's
    container all instances share one, so measurements here would not hold there.
    """
    if on_gpu:
        return [(1, 0)]
    counts = [2**power for power in range(_MOST_INSTANCES.bit_length()) if 2**power <= cores]
    return [(count, cores // count) for count in counts]
