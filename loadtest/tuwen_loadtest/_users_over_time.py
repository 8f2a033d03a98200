"""The number of users over time. With Poisson arrivals, a user sends one request per second on average."""

from __future__ import annotations

import math

__all__ = ["STEPS", "users_at"]

STEPS = 8
"""The number of steps of a ramp."""


def users_at(shape: str, users: int, progress: float) -> int:
    """Return the number of active users at some time of a run.

    Args:
        shape: ``steady``: all users all the time. ``ramp``: another eighth of the users in each eighth of the time.
            ``spike``: all users in the middle third of the time, and a quarter of the users before and after it.
        users: the number of all users.
        progress: the elapsed share of the run, from 0 to 1.
    """
    if shape == "ramp":
        return math.ceil(users * (math.floor(progress * STEPS) + 1) / STEPS)
    if shape == "spike":
        return users if 1 / 3 <= progress < 2 / 3 else math.ceil(users / 4)
    return users
