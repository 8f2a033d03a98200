"""Threads that compute together wait for each other for a while, and then leave their core to others.

A thread that has done its part of a loop spins until the others have done theirs. libgomp's default is 300,000 rounds
(its manual, GOMP_SPINCOUNT), which is milliseconds: where a model's process shares its cores, with Triton's frontends
and the Python models, the thread that is waited for does not get the core that the other wastes. With none at all,
threads sleep between any two loops, and waking them takes longer than the loops of a small batch.
"""

from __future__ import annotations

__all__ = ["OPENMP_SETTINGS"]

OPENMP_SETTINGS = {"GOMP_SPINCOUNT": "10000"}
"""Environment variables for processes that are still to be started; other OpenMP libraries do not read it."""
