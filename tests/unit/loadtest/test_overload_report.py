"""The table of the overload benchmark."""

from __future__ import annotations

from tuwen_loadtest.bench.overload import Overload, overload_lines
from tuwen_server.traffic import Answers


def test_a_row_shows_answers_refusals_and_batches() -> None:
    answers = Answers(10.0, (0.5,) * 90, refused=(2.0,) * 30)
    lines = list(overload_lines([Overload("as `tuwen serve` does", "texts", 2.0, 10.0, answers, 31.5)]))
    assert "| texts as `tuwen serve` does | 2 × 10.0 | 9.0 | 90% | 0.50; 0.50 | 25%; 2.00 | 31.5 |" in lines
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")


def test_a_rate_without_answers_and_refusals_has_a_row() -> None:
    answers = Answers(10.0, (), failed=3)
    lines = list(overload_lines([Overload("with queue policies", "images", 0.5, 4.0, answers, 0.0)]))
    assert "| images with queue policies | 0.5 × 4.0 | 0.0 | 0% | – | 0%; – | 0.0 |" in lines
    assert "Requests that ended in neither an answer nor a typed refusal: 3." in lines
