"""What a server counts: Triton's statistics extension, model by model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeAlias

__all__ = ["ModelStatistics", "Statistics", "difference"]


@dataclass(frozen=True)
class ModelStatistics:
    """What one model has done since it was loaded; see Triton's ``extension_statistics.md``.

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
    """What happened between two readings. A model that was loaded anew in between counts from its start."""
    return {name: _since(now, before.get(name, ModelStatistics())) for name, now in after.items()}


def _since(now: ModelStatistics, then: ModelStatistics) -> ModelStatistics:
    if now.requests < then.requests or now.failures < then.failures:
        return now
    return ModelStatistics(*(getattr(now, field.name) - getattr(then, field.name) for field in fields(now)))
