"""Percentiles of latencies. A request without an answer counts as infinitely late."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["latency_quantile"]

_ROUNDING = 1e-9  # 0.99 * 100 may be computed as 99.00000000000001, which must not select the 100th value


def latency_quantile(latencies: Sequence[float], share: float, *, unanswered: int = 0) -> float:
    """Return the smallest latency within which at least `share` of all requests were answered (nearest rank).

    A request that was refused, lost or never answered counts as infinitely late. A percentile over the answers alone
    improves when a service refuses its slowest requests, and stays good when the service falls silent.

    Args:
        latencies: the seconds until each answer, in any order.
        share: the share of the requests, from 0 to 1, such as 0.99.
        unanswered: the number of requests without an answer.

    Returns:
        The latency in seconds; infinite if fewer than `share` of the requests were answered, nan without requests.
    """
    count = len(latencies) + unanswered
    if not count:
        return math.nan
    rank = max(1, math.ceil(share * count - _ROUNDING))
    return float(sorted(latencies)[rank - 1]) if rank <= len(latencies) else math.inf
