"""The tuned settings of an encoder and of the preprocessing model before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "DELAYS",
    "ENCODERS",
    "INSTANCES",
    "PREPROCESSING",
    "PROCESSES",
    "Settings",
    "layouts",
    "preprocessing_counts",
]

ENCODERS: Mapping[str, str] = {"images": "vision_encoder", "texts": "text_encoder"}
PREPROCESSING: Mapping[str, str] = {"images": "image_preprocessing", "texts": "text_tokenization"}
DELAYS = (100, 2_000, 10_000)  # microseconds; less than 100 has its price on tritonserver 2.51, see the configs
INSTANCES = (1, 2, 4)
"""The numbers of instances of an encoder to try on a running server, until a larger number is not faster."""
PROCESSES = (1, 2, 4, 8)
"""The numbers of instances of `image_preprocessing` to try on a running server, until a larger one is not faster."""
_MOST_INSTANCES = 8
_CORES_OF_A_DECODER = 8  # because of the interpreter lock, one process uses about six cores


@dataclass(frozen=True)
class Settings:
    """The settings of an encoder and of the preprocessing model before it.

    Attributes:
        instances: the number of instances that compute at the same time.
        threads: the number of threads of each instance on the CPU; 0: torch's default. A GPU ignores the number.
        delay_microseconds: the time that a request waits for other requests although an instance is free.
        preprocessing: the number of instances of the model that decodes images or tokenizes texts. Each instance is a
            process.
    """

    instances: int
    threads: int
    delay_microseconds: int
    preprocessing: int = 1


def layouts(cores: int, *, on_gpu: bool) -> Sequence[tuple[int, int]]:
    """Return pairs of instances and threads per instance: every split of a CPU's cores, or one instance on a GPU.

    In the embedded server, each instance on a GPU is a process with its own CUDA context. In NVIDIA's container, all
    instances share one context, so the container needs measurements of its own, with `INSTANCES`.
    """
    if on_gpu:
        return [(1, 0)]
    counts = [2**power for power in range(_MOST_INSTANCES.bit_length()) if 2**power <= cores]
    return [(count, cores // count) for count in counts]


def preprocessing_counts(cores: int) -> Sequence[int]:
    """Return the numbers of instances of `image_preprocessing` to try. Each instance has at least eight cores.

    One process decodes several images at once, so a second process only helps where the interpreter lock limits it.
    """
    return [count for count in PROCESSES if count == 1 or count * _CORES_OF_A_DECODER <= cores]
