"""Choose a threshold from judged pictures, for a wanted recall or precision, and measure the threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen import InvalidArgumentError

__all__ = ["Calibration", "Interval", "calibrate", "wilson_interval"]

_ASSURANCE = 0.8
_FEWEST = 8
_FOLDS = 5
_Z = 1.96  # of 95 %


@dataclass(frozen=True)
class Interval:
    """A measured share with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})"


@dataclass(frozen=True)
class Calibration:
    """A chosen threshold, and its quality on held-out pictures (cross-validated).

    Attributes:
        cosine: the threshold.
        positives, negatives: the numbers of judged pictures.
        base_rate: the expected share of positives where the threshold is used.
        recall: the share of positives that are accepted.
        false_positive_rate: the share of negatives that are accepted.
        precision: the share of positives among accepted pictures, at the base rate.
        ranking: the probability that a positive scores higher than a negative, as the area under the ROC curve; 0.5 is
            chance.
    """

    cosine: float
    positives: int
    negatives: int
    base_rate: float
    recall: Interval
    false_positive_rate: Interval
    precision: Interval
    ranking: float


def wilson_interval(hits: int, count: int) -> Interval:
    """Return a share with its 95 % interval by Wilson's formula, which is valid for few trials, too."""
    if not count:
        return Interval(math.nan, 0.0, 1.0)
    share, square = hits / count, _Z * _Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    reach = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    return Interval(share, max(0.0, middle - reach), min(1.0, middle + reach))


def calibrate(
    positives: NDArray[np.floating[Any]],
    negatives: NDArray[np.floating[Any]],
    *,
    recall: float | None = None,
    precision: float | None = None,
    base_rate: float | None = None,
    seed: int = 0,
) -> Calibration:
    """Choose a threshold for a wanted recall or precision, and measure it on held-out pictures.

    For a recall, the threshold is low enough that new pictures reach the recall with 80 % certainty. For a precision,
    the threshold is the lowest that keeps the precision at the base rate.

    Args:
        positives, negatives: the scores of judged pictures (n,), (m,).
        recall: the wanted share of positives that are accepted. Pass either `recall` or `precision`.
        precision: the wanted share of positives among accepted pictures.
        base_rate: the expected share of positives where the threshold is used; None: the share among `positives` and
            `negatives`.
        seed: the seed of the random split for the measurement.

    Raises:
        InvalidArgumentError: there are too few pictures for the wanted value, or no threshold reaches it.
    """
    wanted = recall if precision is None else precision
    if wanted is None or (recall is not None and precision is not None):
        raise InvalidArgumentError("expected a recall or a precision, and not both")
    if not 0 < wanted < 1:
        raise InvalidArgumentError(f"expected a recall or a precision between 0 and 1, got {wanted:g}")
    if base_rate is not None and not 0 < base_rate < 1:
        raise InvalidArgumentError(f"expected a base rate between 0 and 1, got {base_rate:g}")
    _check_counts(len(positives), len(negatives), recall)
    share = base_rate if base_rate is not None else len(positives) / (len(positives) + len(negatives))
    cosine = _choose(positives, negatives, recall, precision, share)
    if cosine is None:
        best = max(_precision(t, positives, negatives, share) for t in positives)
        raise InvalidArgumentError(
            f"no threshold reaches a precision of {wanted:g} at a base rate of {share:.1%}: the best is {best:.2f}. "
            "Pass texts that describe the pictures better, or more negatives"
        )
    accepted_positives = accepted_negatives = 0
    random = np.random.default_rng(seed)
    folds = min(_FOLDS, len(positives), len(negatives))
    split = [np.arange(len(scores)) % folds for scores in (positives, negatives)]
    for part in split:
        random.shuffle(part)
    for fold in range(folds):
        kept, rest = positives[split[0] != fold], negatives[split[1] != fold]
        chosen = _choose(kept, rest, recall, precision, share)
        chosen = float(kept.max()) if chosen is None else chosen
        accepted_positives += int((positives[split[0] == fold] >= chosen).sum())
        accepted_negatives += int((negatives[split[1] == fold] >= chosen).sum())
    found = wilson_interval(accepted_positives, len(positives))
    wrong = wilson_interval(accepted_negatives, len(negatives))
    exact = Interval(
        _at_base_rate(found.value, wrong.value, share),
        _at_base_rate(found.low, wrong.high, share),
        _at_base_rate(found.high, wrong.low, share),
    )
    higher = (positives[:, None] > negatives).mean() + 0.5 * (positives[:, None] == negatives).mean()
    return Calibration(cosine, len(positives), len(negatives), share, found, wrong, exact, float(higher))


def _check_counts(positives: int, negatives: int, recall: float | None) -> None:
    needed = _FEWEST if recall is None else max(_FEWEST, math.ceil(math.log(1 - _ASSURANCE) / math.log(recall)))
    aim = f"a recall of {recall:g}" if recall is not None else "a precision"
    if positives < needed:
        raise InvalidArgumentError(
            f"{aim} needs at least {needed:,} positive pictures, got {positives:,}; judge more pictures"
            + (", or ask for a lower recall" if recall is not None else "")
        )
    if negatives < _FEWEST:
        raise InvalidArgumentError(f"a threshold needs at least {_FEWEST} negative pictures, got {negatives}")


def _choose(
    positives: NDArray[np.floating[Any]],
    negatives: NDArray[np.floating[Any]],
    recall: float | None,
    precision: float | None,
    share: float,
) -> float | None:
    """Return the threshold for a recall or a precision; None if no threshold reaches the precision."""
    ascending = np.sort(positives)
    if recall is not None:
        return float(ascending[max(1, _rejected(len(positives), recall)) - 1])
    for threshold in ascending:
        if _precision(threshold, positives, negatives, share) >= (precision or 0):
            return float(threshold)
    return None


def _rejected(count: int, recall: float) -> int:
    """Return the rank of the positive whose score becomes the threshold; the lowest score has rank 1.

    The share of all positives below the k-th of n samples has the distribution Beta(k, n + 1 - k). The probability of a
    share of at most x equals the probability of at least k successes in n trials with chance x.
    """
    certain, below, rank = 1.0, 1 - recall, 0
    for successes in range(count):
        certain -= math.comb(count, successes) * below**successes * recall ** (count - successes)
        if certain < _ASSURANCE:
            break
        rank = successes + 1
    return rank


def _precision(
    threshold: float, positives: NDArray[np.floating[Any]], negatives: NDArray[np.floating[Any]], share: float
) -> float:
    """Return the precision at a base rate, estimated with one accepted negative more than observed."""
    wrong = (int((negatives >= threshold).sum()) + 1) / (len(negatives) + 1)
    return _at_base_rate(float((positives >= threshold).mean()), wrong, share)


def _at_base_rate(found: float, wrong: float, share: float) -> float:
    accepted = share * found + (1 - share) * wrong
    return share * found / accepted if accepted else 0.0
