"""The outcomes of the attacks, and the Markdown table that lists them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Outcome", "table"]


@dataclass
class Outcome:
    """The outcome of one kind of attack: a row of the report's table.

    Attributes:
        tried: the name of the attack, such as ``tritonserver killed``.
        times: the number of attempts.
        happened: a summary of the results, such as ``answers again after 2.1 s``.
        wrong: descriptions of the faults that the attack found; empty if the service behaved as required.
    """

    tried: str
    times: int
    happened: str
    wrong: list[str] = field(default_factory=list)


def table(outcomes: Iterable[Outcome]) -> str:
    """Return a Markdown table with a row for each outcome."""
    lines = ["| attack | times | outcome |", "|---|---|---|"]
    for outcome in outcomes:
        wrong = f" **{len(outcome.wrong)} wrong: {outcome.wrong[0]}**" if outcome.wrong else ""
        lines.append(f"| {outcome.tried} | {outcome.times:,} | {outcome.happened}{wrong} |")
    return "\n".join(lines) + "\n"
