"""A fluid simulation of a fleet under a HorizontalPodAutoscaler: requests flow, and no clock passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Fleet", "Outcome", "Scaler", "follow"]

_WINDOW = 60  # seconds over which Prometheus takes the rates


@dataclass(frozen=True)
class Fleet:
    """The behaviour of the servers.

    Attributes:
        load_seconds: from the start of a pod until it is ready.
        patience: seconds that a request may wait before it is refused.
    """

    load_seconds: int = 75
    patience: float = 10.0


@dataclass(frozen=True)
class Scaler:
    """The settings of the autoscaler.

    Attributes:
        triggers: a threshold, and the sum over the pods of what is compared with it, from the busy pods, the seconds of
            work in the queue and the ready pods.
        fewest: the minimum of replicas.
        most: the maximum of replicas.
        up: seconds of the window whose lowest recommendation counts for growth.
        down: seconds of the window whose highest recommendation counts for shrinkage.
        poll: seconds between two looks.
    """

    triggers: tuple[tuple[float, Callable[[float, float, int], float]], ...]
    fewest: int = 2
    most: int = 16
    up: int = 15
    down: int = 300
    poll: int = 15

    def wanted(self, replicas: int, busy: float, queue: float, ready: int) -> int:
        """Return the replicas that the Kubernetes algorithm recommends, with its tolerance of a tenth."""
        found = []
        for threshold, total in self.triggers:
            value = total(busy, queue, ready)
            steady = abs(value / replicas / threshold - 1) <= 0.1
            found.append(replicas if steady else math.ceil(value / threshold))
        return max(self.fewest, min(self.most, max(found)))


@dataclass(frozen=True)
class Outcome:
    """The result of a simulation.

    Attributes:
        changes: the number of changes of the replicas.
        refused: the share of the work that was refused.
    """

    changes: int
    refused: float


def follow(scaler: Scaler, load: float, *, fleet: Fleet | None = None, hours: float = 4) -> Outcome:
    """Return the outcome of a constant load on a fleet that begins with the fewest replicas.

    Args:
        load: in pods that would be busy all the time.
        hours: how long it lasts.
    """
    fleet = fleet or Fleet()
    replicas = ready = scaler.fewest
    starting: list[int] = []
    queue = refused = 0.0
    changes = 0
    served: list[float] = []
    recommended: list[tuple[int, int]] = []
    seconds = int(hours * 3600)
    for now in range(seconds):
        ready += sum(when <= now for when in starting)
        starting = [when for when in starting if when > now]
        queue += load
        served.append(min(queue, ready))
        queue -= served[-1]
        over = max(0.0, queue - ready * fleet.patience)
        refused, queue = refused + over, queue - over
        if now % scaler.poll:
            continue
        window = served[-_WINDOW:]
        recommended.append((now, scaler.wanted(replicas, sum(window) / len(window), queue, ready)))
        lowest = min(count for when, count in recommended if when > now - scaler.up)
        highest = max(count for when, count in recommended if when > now - scaler.down)
        following = min(max(replicas, lowest), highest)
        if following > replicas:
            starting += [now + fleet.load_seconds] * (following - replicas)
        elif following < replicas:
            gone = replicas - following
            unready = min(gone, len(starting))
            starting = starting[: len(starting) - unready]
            ready -= gone - unready
        changes += following != replicas
        replicas = following
    return Outcome(changes, refused / (load * seconds))
