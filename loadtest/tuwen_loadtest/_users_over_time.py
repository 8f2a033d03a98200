"""The number of users over time. With Poisson arrivals, it is the offered rate in requests per second."""

from __future__ import annotations

import math

__all__ = ["STEPS", "users_at"]

STEPS = 8
"""The number of steps of a ramp."""


def users_at(shape: str, users: int, progress: float) -> int:
    """Return the number of active users of a shape after a share of the time.

    ``steady``: all users. ``ramp``: one eighth of the users more in each eighth of the time. ``spike``: a quarter of
    the users, and all users in the middle third.
    """
    if shape == "ramp":
        return math.ceil(users * (math.floor(progress * STEPS) + 1) / STEPS)
    if shape == "spike":
        return users if 1 / 3 <= progress < 2 / 3 else math.ceil(users / 4)
    return users
