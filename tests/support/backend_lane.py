"""The choice of the PyTorch backend that the servers of the tests run: our own, or NVIDIA's C++ backend.

TUWEN_PYTORCH_BACKEND names the folder of NVIDIA's backend. If it is not set, the servers run our own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["lane_header", "runs_in_lane"]

VARIABLE = "TUWEN_PYTORCH_BACKEND"
LIBRARY = "libtriton_pytorch.so"


def runs_in_lane(environment: Mapping[str, str]) -> bool:
    """Return whether TUWEN_PYTORCH_BACKEND is set, so that the servers of the tests run NVIDIA's backend.

    If the folder lacks the library, the servers refuse to start. They do not run our own backend instead.
    """
    return bool(environment.get(VARIABLE))


def lane_header(environment: Mapping[str, str]) -> str:
    """Return the line of pytest's header that says which PyTorch backend is tested."""
    if not runs_in_lane(environment):
        return f"pytorch backend: tuwen's own; not tested: NVIDIA's C++ backend (set {VARIABLE} to its folder)"
    folder = Path(environment[VARIABLE]).expanduser().absolute()
    if (folder / LIBRARY).is_file():
        return f"pytorch backend: NVIDIA's {folder / LIBRARY}"
    return f"pytorch backend: none; {VARIABLE} names '{folder}', where {LIBRARY} is missing"
