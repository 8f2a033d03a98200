"""A simulation of servers under a HorizontalPodAutoscaler, second by second and without real time.

The work is a continuous quantity: the seconds in which one pod would do it. There are no single requests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Fleet", "Outcome", "Scaler", "follow"]

_WINDOW = 60  # the window of Prometheus's rates, in seconds


@dataclass(frozen=True)
class Fleet:
    """The behaviour of the simulated servers.

    Attributes:
        load_seconds: the seconds from the start of a pod until it is ready.
        patience: the longest wait of a request, in seconds. A request that would wait longer is refused.
    """

    load_seconds: int = 75
    patience: float = 10.0


@dataclass(frozen=True)
class Scaler:
    """The settings of the simulated autoscaler.

    Attributes:
        triggers: for each metric the threshold per pod, and a function that returns the metric's sum over all pods. The
            function takes the number of busy pods, the seconds of work in the queue, and the number of ready pods.
        fewest: the minimum number of replicas.
        most: the maximum number of replicas.
        up: the stabilization window for growth, in seconds. The lowest recommendation in the window counts.
        down: the stabilization window for shrinkage, in seconds. The highest recommendation in the window counts.
        poll: the seconds between two recommendations.
    """

    triggers: tuple[tuple[float, Callable[[float, float, int], float]], ...]
    fewest: int = 2
    most: int = 16
    up: int = 15
    down: int = 300
    poll: int = 15

    def wanted(self, replicas: int, busy: float, queue: float, ready: int) -> int:
        """Return the number of replicas that the algorithm of Kubernetes recommends, with its tolerance of 10 %."""
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
        changes: how often the number of replicas changed.
        refused: the refused share of all work, from 0 to 1.
    """

    changes: int
    refused: float


def follow(scaler: Scaler, load: float, *, fleet: Fleet | None = None, hours: float = 4) -> Outcome:
    """Simulate a constant load on servers that begin with the fewest replicas, and return the outcome.

    Args:
        scaler: the settings of the autoscaler.
        load: the load, as the number of pods that it keeps busy.
        fleet: the behaviour of the servers; None: the default behaviour.
        hours: the length of the simulation, in hours.
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
