"""Statistics of a server, from Triton's statistics extension, and the profile of a call's time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

from tuwen.model_names import STEPS, full_name, name_and_model

__all__ = ["ModelStatistics", "Profile", "Statistics", "difference", "profile_of"]


@dataclass(frozen=True)
class ModelStatistics:
    """The counters of one model since it was loaded; see Triton's ``extension_statistics.md``.

    Attributes:
        requests: the number of successful requests. For an ensemble, a request counts if it passed all steps.
        failures: the number of requests that were refused or failed.
        items: the number of images or texts in executed requests.
        executions: the number of executed batches.
        total_seconds: the seconds from arrival to response, summed over all successful requests.
        queue_seconds: the seconds in the queue, summed over all successful requests.
        compute_seconds: the seconds in the model, summed over all successful requests. Preparing inputs and reading
            outputs is included.
    """

    requests: int = 0
    failures: int = 0
    items: int = 0
    executions: int = 0
    total_seconds: float = 0.0
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0

    @property
    def mean_batch_size(self) -> float:
        """The mean number of items per batch; 0 if there was no batch."""
        return self.items / self.executions if self.executions else 0.0


Statistics: TypeAlias = Mapping[str, ModelStatistics]
"""The statistics of each model, by the name of the model."""


def difference(after: Statistics, before: Statistics) -> Statistics:
    """Return the difference between two readings of the statistics.

    If a model was reloaded between the readings, its counters begin at the reload.
    """
    return {name: _since(now, before.get(name, ModelStatistics())) for name, now in after.items()}


def _since(now: ModelStatistics, then: ModelStatistics) -> ModelStatistics:
    if now.requests < then.requests or now.failures < then.failures:
        return now
    return ModelStatistics(*(getattr(now, field.name) - getattr(then, field.name) for field in fields(now)))


_ENCODERS = ("vision_encoder", "text_encoder")


@dataclass(frozen=True)
class Profile:
    """The time of a call in seconds, divided into parts that add up to the whole.

    The times `queue`, `preprocessing`, `encoder` and `other` come from the server's statistics, which cover all
    callers. On a busy server, these times are averages over the requests of all callers during the call.

    Attributes:
        items: the number of images and texts.
        requests: the number of requests, which were sent one after the other.
        client: the seconds to read files, build requests and read responses. With ``preprocess="client"``, the seconds
            to decode images are included.
        network: the seconds in gRPC and the network.
        queue: the seconds in the queues of the server.
        preprocessing: the seconds in which the server decodes and resizes images, and tokenizes texts.
        encoder: the seconds in the neural networks.
        other: the seconds between these steps, inside the server.
    """

    items: int
    requests: int
    client: float
    network: float
    queue: float
    preprocessing: float
    encoder: float
    other: float

    @property
    def total(self) -> float:
        """The seconds of the whole call."""
        return sum(seconds for _, seconds in self.parts)

    @property
    def parts(self) -> Sequence[tuple[str, float]]:
        """The names and seconds of the steps, in the order in which a request passes them."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)[2:]]

    def __str__(self) -> str:
        lines = [f"{self.total * 1e3:10.2f} ms  for {self.items} items in {self.requests} requests"]
        lines += [f"{seconds * 1e3:10.2f} ms  {seconds / self.total:4.0%}  {name}" for name, seconds in self.parts]
        return "\n".join(lines)


def profile_of(
    items: int, sent: Mapping[str, int], total: float, waiting: float, statistics: Statistics, *, name: str = ""
) -> Profile:
    """Return the profile of a call.

    Args:
        items: the number of embedded items.
        sent: the number of requests, by the name of the model.
        total: the seconds of the call.
        waiting: the seconds during which the call waited for responses.
        statistics: the server's statistics for the time of the call.
        name: the name of the repository whose models handled the requests; empty: the repository has no name.
    """
    served = queue = preprocessing = encoder = 0.0
    for model, requests in sent.items():
        counted = statistics.get(model, ModelStatistics())
        served += requests * counted.total_seconds / max(counted.requests, 1)
        _, ensemble = name_and_model(model) or ("", model)
        for passed in STEPS[ensemble]:
            step = statistics.get(full_name(name, passed), ModelStatistics())
            queue += requests * step.queue_seconds / max(step.requests, 1)
            compute = requests * step.compute_seconds / max(step.requests, 1)
            if passed in _ENCODERS:
                encoder += compute
            else:
                preprocessing += compute
    inside = queue + preprocessing + encoder
    served = min(max(served, inside), waiting)
    if inside > served:  # averages over all callers may exceed this call's wait
        queue, preprocessing, encoder = (part * served / inside for part in (queue, preprocessing, encoder))
        inside = served
    return Profile(
        items=items,
        requests=sum(sent.values()),
        client=total - waiting,
        network=waiting - served,
        queue=queue,
        preprocessing=preprocessing,
        encoder=encoder,
        other=served - inside,
    )
