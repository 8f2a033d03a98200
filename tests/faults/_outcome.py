"""The outcome of one kind of attack: its name, its number of attempts, and the results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Outcome", "table"]


@dataclass
class Outcome:
    """One row of the table.

    Attributes:
        tried: what, in a few words.
        times: how often.
        happened: the outcome of the attack.
        wrong: everything that should not have happened.
    """

    tried: str
    times: int
    happened: str
    wrong: list[str] = field(default_factory=list)


def table(outcomes: Iterable[Outcome]) -> str:
    """Markdown."""
    lines = ["| what was tried | times | what happened |", "|---|---|---|"]
    for outcome in outcomes:
        wrong = f" **{len(outcome.wrong)} wrong: {outcome.wrong[0]}**" if outcome.wrong else ""
        lines.append(f"| {outcome.tried} | {outcome.times:,} | {outcome.happened}{wrong} |")
    return "\n".join(lines) + "\n"
