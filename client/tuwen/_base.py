"""What both clients hold, and no network touches."""

from __future__ import annotations

from tuwen._card import ModelCard
from tuwen._deadline import Deadline
from tuwen._retries import RetryBudget, RetryPolicy, patient
from tuwen._zero_shot import LabelCache

__all__ = ["REQUESTS_IN_FLIGHT", "BaseClient"]

REQUESTS_IN_FLIGHT = 8


class BaseClient:
    """The state of a client.

    Raises:
        InvalidArgumentError: the timeout makes no sense.
    """

    def __init__(self, url: str, timeout: float, retries: RetryPolicy | None) -> None:
        Deadline(timeout)
        self._url = url
        self._timeout = timeout
        self._card: ModelCard | None = None
        self._labels = LabelCache()
        retries = retries or RetryPolicy()
        self._retry_budget, self._patience = RetryBudget(retries), patient(retries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r}, timeout={self._timeout:g})"

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(self._timeout if timeout is None else timeout)
