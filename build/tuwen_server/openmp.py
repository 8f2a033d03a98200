"""Settings of OpenMP: threads of one computation spin briefly for each other, and then sleep.

A thread that has finished its part of a loop spins until the others have finished. libgomp's default is 300,000 rounds
(its manual, GOMP_SPINCOUNT), which takes milliseconds. Other processes (Triton's frontends, the Python models) then
lack the core. Without any spinning, threads would sleep between two loops, and waking them takes longer than the loops
of a small batch.
"""

from __future__ import annotations

__all__ = ["OPENMP_SETTINGS"]

OPENMP_SETTINGS = {"GOMP_SPINCOUNT": "10000"}
"""Environment variables for new processes. OpenMP libraries other than libgomp ignore them."""
