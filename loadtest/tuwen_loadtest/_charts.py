"""The charts of a report, as SVG."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

from tuwen_loadtest._curve import Curve
from tuwen_loadtest._model_load import STEP_NAMES
from tuwen_loadtest._session import Run
from tuwen_server.traffic import latency_quantile

mpl.use("Agg")

from matplotlib import pyplot as plt

__all__ = ["curve_picture", "timeline_picture"]

_WIDE, _NARROW = 9.6, 3.9  # inches of 96 pixels: a page, and a phone without its margins
_SHOWN_BUSY = 5.0  # percent; a line near 0 says nothing


def curve_picture(curves: Sequence[Curve], *, narrow: bool = False) -> str:
    """Return a chart of throughput and latency over the offered rate, with a line for each repetition.

    Args:
        narrow: for a phone, one above the other.
    """
    rows, columns, size = (2, 1, (_NARROW, 6.4)) if narrow else (1, 2, (_WIDE, 3.8))
    figure, (left, right) = plt.subplots(rows, columns, figsize=size)
    for place, curve in enumerate(curves):
        steps = curve.steps
        label = f"repetition {place + 1}"
        which = f", {label}" if len(curves) > 1 else ""
        left.plot([step.offered for step in steps], [step.throughput for step in steps], marker="o", label=label)
        for name, line in (("p50", ":"), ("p99", "-")):
            milliseconds = [step.latencies[name] * 1e3 for step in steps]
            answered = [step.throughput for step in steps]
            right.plot(
                answered,
                milliseconds,
                line,
                marker=".",
                color=f"C{place}",
                label=f"{name}{which}",
            )
    capacity = float(np.median([curve.capacity for curve in curves]))
    left.axhline(capacity, color="#999999", linewidth=1)
    left.annotate(f"capacity {capacity:.1f}/s", (0, capacity), xytext=(4, 4), textcoords="offset points")
    highest = max(step.throughput for curve in curves for step in curve.steps)
    left.set(xlabel="requests offered, a second", ylabel="answered, a second")
    left.set(xlim=(0, None), ylim=(0, max(highest, capacity) * 1.15))
    right.set(xlabel="requests answered, a second", ylabel="latency, ms", yscale="log", xlim=(0, None))
    if len(curves) > 1:
        left.legend(loc="lower right")
    right.legend(loc="best", fontsize="small")
    return _svg(figure)


def timeline_picture(run: Run, trouble: tuple[float, float] | None, *, narrow: bool = False) -> str:
    """Return a chart of requests, latencies and, if known, the server's load by second. The fault is shaded.

    Args:
        narrow: whether the chart is for the screen of a phone.
    """
    samples = run.samples
    start = min(sample.due for sample in samples)
    due = np.array([sample.due - start for sample in samples])
    latencies = np.array([sample.seconds for sample in samples])
    answered = np.array([sample.outcome == "answered" for sample in samples])
    ended = (due + latencies).astype(int)
    length = int(ended.max()) + 1
    count = 3 if run.readings or run.loads else 2
    width = _NARROW if narrow else _WIDE
    figure, axes = plt.subplots(count, 1, figsize=(width, 2.3 * count), sharex=True)
    upper, lower = axes[:2]
    upper.plot(np.bincount(due.astype(int), minlength=length), label="due", color="#999999")
    upper.plot(np.bincount(ended[answered], minlength=length), label="answered", color="C0")
    if not answered.all():
        upper.plot(np.bincount(ended[~answered], minlength=length), label="refused or failed", color="C3")
    upper.set(ylabel="requests, a second", ylim=(0, None))
    _legend_above(upper, narrow=narrow)
    of_each = [due.astype(int) == second for second in range(length)]
    for share, line in ((0.5, ":"), (0.99, "-")):
        quantiles = [
            latency_quantile(latencies[answered & now].tolist(), share, unanswered=int((now & ~answered).sum())) * 1e3
            for now in of_each
        ]
        lower.plot(quantiles, line, color="C0", label=f"p{share * 100:.0f}")
    lower.set(ylabel="latency, ms", yscale="log")
    _legend_above(lower, narrow=narrow)
    if count == 3:
        _plot_readings(axes[2], run, start, narrow=narrow)
    axes[-1].set(xlabel="seconds", xlim=(0, length))
    if trouble:
        for axis in axes:
            axis.axvspan(trouble[0] - start, trouble[1] - start, color="#d1495b", alpha=0.12)
    return _svg(figure)


def _plot_readings(axis: Any, run: Run, start: float, *, narrow: bool) -> None:
    times = [reading.time - start for reading in run.readings]
    for name, values in (
        ("processor, all programs", [reading.cpu for reading in run.readings]),
        ("GPU", [reading.gpu for reading in run.readings]),
    ):
        if not all(math.isnan(value) for value in values):
            axis.plot(times, [value * 100 for value in values], label=name)
    for model, name in STEP_NAMES.items():
        shares = [load.busy.get(model, math.nan) * 100 for load in run.loads]
        if any(share > _SHOWN_BUSY for share in shares):
            axis.plot([load.time - start for load in run.loads], shares, label=name)
    axis.set(ylabel="% busy", ylim=(0, 105))
    if axis.lines:
        _legend_above(axis, narrow=narrow)


def _legend_above(axis: Any, *, narrow: bool) -> None:
    """Show a legend above the frame, where it covers no line."""
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "ncols": 2 if narrow else 6}
    axis.legend(**place, frameon=False, fontsize="small", columnspacing=1, handlelength=1.2)


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.tight_layout()
    figure.savefig(text, format="svg")
    plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]
