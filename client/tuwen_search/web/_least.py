"""The minimum score of a search on the page: its default, its value, and the control to choose it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tuwen_search.web._address import Address
from tuwen_search.web._service import Service
from tuwen_search.web._translations import WORDS

__all__ = ["LeastControl", "least_control", "least_default", "least_score"]

_HIGHEST_OF_TEXTS = 0.6  # cosines of a text and a picture stay below 0.6; cosines of two pictures reach 1
_STEP = 0.01  # the distance of two scores of the slider


@dataclass(frozen=True)
class LeastControl:
    """The control for the minimum score: a slider, and a checkbox that shows all pictures.

    Attributes:
        low: the score at the left end.
        high: the score at the right end: the score of the best picture, rounded down, if this score is known.
        value: the score that the slider shows.
        all: whether the checkbox is checked, so that all pictures are shown and the slider has no effect.
        default: the value that the address may leave out: a score with two digits, or ``all``.
        hints: the sentences that explain the minimum score to the visitor.
    """

    low: float
    high: float
    value: float
    all: bool
    default: str
    hints: tuple[str, ...]


def least_default(service: Service, address: Address) -> float | None:
    """Return the minimum score that applies if the visitor chooses no other; None: all pictures are shown.

    Only a calibration sets a default. Scores depend on the model, the language and the pictures, so a guess could hide
    pictures that fit.
    """
    return service.threshold.cosine if service.threshold is not None and address.text_alone else None


def least_score(service: Service, address: Address) -> float | None:
    """Return the minimum score of a shown picture; None: all pictures are shown."""
    if address.min_score is None:
        return least_default(service, address)
    return None if address.min_score <= -1 else address.min_score


def least_control(service: Service, address: Address, best: float | None) -> LeastControl:
    """Return the control for the minimum score of a search.

    Args:
        service: the state that all visitors share, with the operator's threshold.
        address: the address of the page.
        best: the score of the best picture; None: the score is not known on this page.
    """
    words = WORDS[address.language]
    default, least = least_default(service, address), least_score(service, address)
    value = 0.0 if least is None else least
    texts = "”, “".join(service.threshold.texts) if service.threshold is not None else ""
    hints = [words.least_means if best is None else words.least_best.format(best=best)]
    if default is None:
        hints += [words.least_none] if least is None else []
    elif address.min_score is None:
        hints.append(words.least_calibrated.format(least=default, texts=texts))
    else:
        hints.append(words.least_other.format(least=default, texts=texts))
    high = _HIGHEST_OF_TEXTS if address.text_alone else 1.0
    if best is not None:
        high = max(_STEP, math.floor(best / _STEP) * _STEP)  # a higher score would leave no picture
    return LeastControl(
        low=min(0.0, value),
        high=round(max(high, value), 2),
        value=value,
        all=least is None,
        default="all" if default is None else f"{default:.2f}",
        hints=tuple(hints),
    )
