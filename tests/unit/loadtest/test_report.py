"""The tables and charts of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tuwen import ModelStatistics
from tuwen_loadtest import _charts
from tuwen_loadtest._connection import Connection
from tuwen_loadtest._curve import Curve, curve_of
from tuwen_loadtest._doubts import doubts_of
from tuwen_loadtest._model_load import ModelLoad
from tuwen_loadtest._phases import Phases
from tuwen_loadtest._samples import Outcome, Sample
from tuwen_loadtest._session import Plan, Run
from tuwen_loadtest._slo import parse_slo
from tuwen_loadtest._summary import summarise
from tuwen_loadtest._tables import model_rows, phase_rows, step_head, step_rows, summary_rows, table
from tuwen_loadtest._verdict import judge
from tuwen_loadtest.options import PayloadOptions

PLAN = Plan(Connection("server:8001"), True, 80, "ramp", 80.0, 30.0, (), PayloadOptions())


def samples(rates: Sequence[int], *, answers_at_most: int = 40) -> list[Sample]:
    """Return ten seconds of samples for each rate. Requests above `answers_at_most` per second are refused."""
    found = []
    for step, rate in enumerate(rates):
        for number in range(rate * 10):
            outcome: Outcome = "answered" if number % rate < answers_at_most else "refused"
            found.append(Sample("text", 1000 + step * 10 + number / rate, 0.0, 0.05, outcome))
    return found


def ramp(*rates: int) -> Curve:
    return curve_of(samples(rates), 80.0, parse_slo("p99<200ms"))


def a_run(taken: Sequence[Sample], **values: Any) -> Run:
    return Run(PLAN, taken, {}, [], 0.5, math.nan, math.nan, **values)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return a list to which every drawn figure is added."""
    drawn: list[Figure] = []
    monkeypatch.setattr(plt, "close", drawn.append)
    return drawn


class TestCurvePicture:
    def test_steps_are_drawn_in_the_order_of_the_load(self, figures: list[Figure]) -> None:
        """Every line runs from left to right, although step 8 had a lower rate than step 7 by chance."""
        picture = _charts.curve_picture([ramp(5, 10, 15, 20, 25, 30, 45, 40)], good_seconds=0.2)
        assert picture.startswith("<svg")
        for axis in figures[0].axes:
            for line in axis.lines:
                places = list(line.get_xdata())
                assert places == sorted(places)
        rates, waits = figures[0].axes[:2]
        assert (rates.get_xlabel(), rates.get_ylabel()) == ("offered requests per second", "answers per second")
        assert waits.get_ylabel() == "latency since the scheduled start, ms"
        numbers = rates.child_axes[0]
        places = dict(zip((label.get_text() for label in numbers.get_xticklabels()), numbers.get_xticks(), strict=True))
        assert places["8"] == pytest.approx(40, rel=0.01)
        assert places["7"] == pytest.approx(45, rel=0.01)

    def test_steps_of_nearly_the_same_load_share_a_label(self, figures: list[Figure]) -> None:
        _charts.curve_picture([ramp(5, 10, 15, 20, 25, 30, 45, 44)])
        labels = [label.get_text() for label in figures[0].axes[0].child_axes[0].get_xticklabels()]
        assert labels == ["1", "2", "3", "4", "5", "6", "7, 8"]

    def test_good_answers_are_drawn_only_for_an_objective(self, figures: list[Figure]) -> None:
        for bound in (math.inf, 0.2):
            _charts.curve_picture([ramp(5, 10, 15, 20, 25, 30, 35, 40)], good_seconds=bound)
        labels = [[text.get_text() for text in figure.axes[0].get_legend().get_texts()] for figure in figures]
        assert labels == [["answered", "all that was offered"], ["answered", "good", "all that was offered"]]

    def test_a_percentile_of_requests_without_an_answer_is_marked(self, figures: list[Figure]) -> None:
        _charts.curve_picture([ramp(5, 10, 15, 20, 25, 30, 60, 70)])
        waits = figures[0].axes[1]
        marks = [list(line.get_xdata()) for line in waits.lines if line.get_marker() == "^"]
        assert [pytest.approx([60, 70], rel=0.01)] == marks[-1:]
        assert "no answer" in [text.get_text() for text in waits.get_legend().get_texts()]

    def test_a_closed_loop_is_drawn_over_the_number_of_callers(self, figures: list[Figure]) -> None:
        curve = curve_of(samples([40] * 8), 80.0, (), callers=16)
        _charts.curve_picture([curve, curve], narrow=True)
        rates = figures[0].axes[0]
        assert rates.get_xlabel() == "concurrent callers"
        assert list(rates.lines[0].get_xdata()) == [2, 4, 6, 8, 10, 12, 14, 16]
        assert "repetition 2" in [text.get_text() for text in rates.get_legend().get_texts()]


def test_latencies_of_a_timeline_are_drawn_at_the_scheduled_second(figures: list[Figure]) -> None:
    """A slow request that is scheduled in second 3 and answered in second 8 raises the latency of second 3."""
    taken = [Sample("text", 1000.0 + second, 0.0, 5.0 if second == 3 else 0.1, "answered") for second in range(10)]
    loads = [ModelLoad(1000.0 + second, 1.0, {"text_encoder": 0.5}) for second in range(10)]
    _charts.timeline_picture(a_run(taken, loads=loads), (1003.0, 1005.0))
    requests, latency, busy = figures[0].axes
    median, _ = latency.lines
    assert list(median.get_ydata())[:10] == pytest.approx([100] * 3 + [5000] + [100] * 6)
    assert latency.get_ylabel() == "latency, ms,\nby scheduled start"
    assert busy.get_xlabel() == "seconds since the first request"
    assert "trouble" in [text.get_text() for text in requests.get_legend().get_texts()]


class TestTables:
    def test_good_answers_have_a_row_only_for_an_objective(self) -> None:
        one, curve = a_run(samples([10])), ramp(5, 10, 15, 20, 25, 30, 35, 40)
        names = {
            good: [row[0] for row in summary_rows([(one, judge(one.samples, (), warmup=0))], (), good=good)]
            for good in (True, False)
        }
        assert set(names[True]) - set(names[False]) == {"good per second"}
        assert "good" not in step_head([curve], (), good=False)
        assert len(step_head([curve], (), good=False)) == len(next(iter(step_rows([curve], (), good=False))))

    def test_a_step_has_its_number_and_whether_it_met_the_objectives(self) -> None:
        curves, objectives = [ramp(5, 10, 15, 20, 25, 30, 60, 70)] * 2, parse_slo("p99<200ms")
        rows = list(step_rows(curves, objectives, good=True))
        head = step_head(curves, objectives, good=True)
        assert [row[0] for row in rows] == [str(step + 1) for step in range(8)]
        assert [row[head.index("met")] for row in rows] == ["yes"] * 6 + ["no"] * 2
        assert [row[head.index("p99 ms")] for row in rows] == ["50"] * 6 + ["∞"] * 2
        worse = replace(curves[0], steps=[*curves[0].steps[:5], *[curves[0].steps[7]] * 3])
        assert list(step_rows([curves[0], worse], objectives, good=True))[5][-1] == "1 of 2"

    def test_the_steps_of_an_ensemble_follow_it_as_its_parts(self) -> None:
        one = ModelStatistics(requests=4, executions=2, items=4)
        named = ("b16_text_encoder", "b16_text_tokenization", "b16_text_embedding", "other", "b16_vision_encoder")
        names = [row[0] for row in model_rows(dict.fromkeys(named, one))]
        assert names == [
            "b16_text_embedding",
            "└ b16_text_tokenization",
            "└ b16_text_encoder",
            "b16_vision_encoder",
            "other",
        ]
        assert '<tr class="part"><td>└ b16' in table(["model"], model_rows(dict.fromkeys(named, one)))

    def test_models_without_requests_are_left_out(self) -> None:
        counted = {"text_embedding": ModelStatistics(requests=1), "text_encoder": ModelStatistics()}
        assert [row[0] for row in model_rows(counted)] == ["text_embedding"]

    def test_an_encoder_of_two_ensembles_has_one_row(self) -> None:
        names = ("pixel_embedding", "image_embedding", "vision_encoder", "image_preprocessing")
        found = [row[0] for row in model_rows(dict.fromkeys(names, ModelStatistics(requests=1)))]
        assert found == ["image_embedding", "└ image_preprocessing", "└ vision_encoder", "pixel_embedding"]


@pytest.mark.parametrize(
    ("cores", "machine", "shared", "cause", "advice"),
    [
        (0.95, 0.5, True, "generator", "run Locust with several workers"),
        (0.95, 0.97, True, "generator", "run Locust with several workers, on another machine than the server"),
        (0.4, 0.97, True, "shared machine", "run the load generator on another machine than the server"),
        (0.4, 0.97, False, "own machine", "stop other programs there, or use another machine"),
        (0.4, 0.5, True, "unknown", "look for a CPU limit of its container, or run Locust with several workers"),
    ],
)
def test_the_cause_of_a_late_load_generator_decides_the_advice(
    cores: float, machine: float, shared: bool, cause: str, advice: str
) -> None:
    taken = [sample._replace(lag=0.02) for sample in samples([10])]
    one = replace(a_run(taken, machine_cpu=[machine] * 5), generator_cpu=cores)
    [doubt] = doubts_of([(one, judge(taken, (), warmup=0))], shared=shared)
    assert doubt.cause == cause
    assert doubt.text.endswith(f"; {advice}")
    assert "20 ms late or more" in doubt.text


def test_a_verdict_counts_good_answers_only_for_an_objective() -> None:
    taken = samples([10])
    assert "/s good" not in judge(taken, parse_slo("errors<1%"), warmup=0).text
    for objectives in ("p99<200ms", "goodput>5/s"):
        assert "10.0/s good" in judge(taken, parse_slo(objectives), warmup=0).text


def test_a_phase_has_no_row_of_good_answers_without_an_objective() -> None:
    found = summarise(samples([10]), 1000, 1010)
    phases = Phases(found, found, found, 1000.0, 1001.0, 0.0)
    assert [row[0] for row in phase_rows(phases, good=True)][:3] == [
        "offered per second",
        "answered per second",
        "good per second",
    ]
    assert "good per second" not in [row[0] for row in phase_rows(phases, good=False)]
