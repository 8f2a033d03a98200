"""What is tried: instances and threads of an encoder, its queue delay, and instances of the model before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["DELAYS", "ENCODERS", "PREPROCESSING", "Settings", "layouts", "preprocessing_counts"]

ENCODERS: Mapping[str, str] = {"images": "vision_encoder", "texts": "text_encoder"}
PREPROCESSING: Mapping[str, str] = {"images": "image_preprocessing", "texts": "text_tokenization"}
DELAYS = (100, 2_000, 10_000)  # microseconds; less than 100 has its price on tritonserver 2.51, see the configs
_MOST_INSTANCES = 8
_CORES_OF_A_DECODER = 8  # more than the interpreter lock lets one process use, about six


@dataclass(frozen=True)
class Settings:
    """How an encoder and the model before it are run.

    Attributes:
        instances: copies that compute at the same time.
        threads: of each on the CPU; 0: as many as torch takes, and on a GPU, where it does not matter.
        delay_microseconds: how long a request waits for others while an instance is free.
        preprocessing: instances of the model that decodes the images or tokenizes the texts. Each is a process.
    """

    instances: int
    threads: int
    delay_microseconds: int
    preprocessing: int = 1


def layouts(cores: int, *, on_gpu: bool) -> Sequence[tuple[int, int]]:
    """Instances and threads of each: all of a CPU's cores in every split, or one instance on a GPU.

    Several instances on a GPU are not tried: here each is a process with a CUDA context of its own, and in NVIDIA's
    container all instances share one, so measurements here would not hold there.
    """
    if on_gpu:
        return [(1, 0)]
    counts = [2**power for power in range(_MOST_INSTANCES.bit_length()) if 2**power <= cores]
    return [(count, cores // count) for count in counts]


def preprocessing_counts(cores: int) -> Sequence[int]:
    """Return the numbers of instances of `image_preprocessing` that are tried: each has eight cores at least.

    A process decodes several images at once, so a second one gains something only beyond its interpreter lock.
    """
    return [count for count in (1, 2, 4, 8) if count == 1 or count * _CORES_OF_A_DECODER <= cores]
