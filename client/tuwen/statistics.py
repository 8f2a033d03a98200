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
        requests: that were answered; of an ensemble, whole ones.
        failures: requests that were refused or failed.
        items: images or texts in the requests that were executed.
        executions: batches that they were executed in.
        total_seconds: from arrival to answer, over all answered requests.
        queue_seconds: waited in the queue, over all answered requests.
        compute_seconds: in the model, its inputs and outputs included, over all answered requests.
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
        """Items a batch; 0 where there was none."""
        return self.items / self.executions if self.executions else 0.0


Statistics: TypeAlias = Mapping[str, ModelStatistics]
"""By the name of the model."""


def difference(after: Statistics, before: Statistics) -> Statistics:
    """Return the difference between two readings. A model that was loaded again in between counts from its start."""
    return {name: _since(now, before.get(name, ModelStatistics())) for name, now in after.items()}


def _since(now: ModelStatistics, then: ModelStatistics) -> ModelStatistics:
    if now.requests < then.requests or now.failures < then.failures:
        return now
    return ModelStatistics(*(getattr(now, field.name) - getattr(then, field.name) for field in fields(now)))


_ENCODERS = ("vision_encoder", "text_encoder")


@dataclass(frozen=True)
class Profile:
    """The time of a call in seconds, divided into parts that add up to the whole.

    The server's parts come from its own statistics. It keeps them for all its callers together, so that on a busy
    server they are the averages of what everybody asked meanwhile.

    Attributes:
        items: images and texts.
        requests: they were sent in, one after the other.
        client: reading files, building requests, reading answers; with ``preprocess="client"`` decoding too.
        network: gRPC and the way there and back.
        queue: waiting for the steps of the server.
        preprocessing: decoding and resizing images, tokenizing texts.
        encoder: the neural networks.
        other: between the steps, inside the server.
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
        """Names and seconds, in the order of the way of a request."""
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
        items: how many were embedded.
        sent: the number of requests by the model they were sent to.
        total: seconds of the call.
        waiting: seconds of it between sending a request and having its answer.
        statistics: what the server counted meanwhile.
        name: of the repository whose models the requests passed through.
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
    if inside > served:  # averages over other callers may be longer than our own wait
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
