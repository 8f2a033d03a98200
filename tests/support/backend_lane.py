"""The test lane of NVIDIA's C++ PyTorch backend, whose folder TUWEN_PYTORCH_BACKEND names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["lane_header", "runs_in_lane"]

VARIABLE = "TUWEN_PYTORCH_BACKEND"
LIBRARY = "libtriton_pytorch.so"


def runs_in_lane(environment: Mapping[str, str]) -> bool:
    """Return whether the servers of the tests run NVIDIA's backend.

    A folder without the library counts as well: the servers then refuse to start, instead of testing our own backend.
    """
    return bool(environment.get(VARIABLE))


def lane_header(environment: Mapping[str, str]) -> str:
    """Return the line that pytest prints before the tests: which PyTorch backend they meet."""
    if not runs_in_lane(environment):
        return f"pytorch backend: tuwen's own; not tested: NVIDIA's C++ backend ({VARIABLE} names its folder)"
    folder = Path(environment[VARIABLE]).expanduser().absolute()
    if (folder / LIBRARY).is_file():
        return f"pytorch backend: NVIDIA's {folder / LIBRARY}"
    return f"pytorch backend: none; {VARIABLE} names '{folder}', where {LIBRARY} is missing"
