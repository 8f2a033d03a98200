"""The charts of a report, as SVG."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import matplotlib as mpl
import numpy as np

from tuwen_loadtest._curve import Curve
from tuwen_loadtest._model_load import STEP_NAMES
from tuwen_loadtest._session import Run
from tuwen_server.traffic import latency_quantile

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

__all__ = ["curve_picture", "timeline_picture"]

_WIDE, _NARROW = 9.6, 3.9  # inches of 96 pixels: the widths of a page and of the screen of a phone
_SHOWN_BUSY = 5.0  # percent; a step that is never busier has no line
_STEP_GAP = 0.04  # the distance of two labels, as a share of the highest load
_GREY = "#8a8a8a"
_LINES = {"p50": ":", "p99": "-"}
_TWO_DECADES = 100.0
_UNANSWERED = 0.96  # the height of the marks of infinite latencies, as a share of the height of the chart


def curve_picture(curves: Sequence[Curve], *, good_seconds: float = math.inf, narrow: bool = False) -> str:
    """Return two charts over the load: throughput and latency, with a line for each repetition.

    The load is the offered rate, or in a closed loop the number of callers. The numbers of the steps are at the top.

    Args:
        curves: the curve of each repetition.
        good_seconds: the maximum latency of a good answer in seconds; infinite: good answers are not drawn.
        narrow: whether the picture is for the screen of a phone, with one chart above the other.
    """
    rows, columns, size = (2, 1, (_NARROW, 8.4)) if narrow else (1, 2, (_WIDE, 4.6))
    figure, (rates, waits) = plt.subplots(rows, columns, figsize=size)
    closed, bounded = bool(curves[0].callers), math.isfinite(good_seconds)
    for place, curve in enumerate(curves):
        ordered = sorted(zip(curve.loads, curve.steps, strict=True), key=lambda pair: pair[0])
        loads, steps, style = [load for load, _ in ordered], [step for _, step in ordered], {"color": f"C{place}"}
        rates.plot(loads, [step.throughput for step in steps], "o-", markersize=4, **style)
        if bounded:
            rates.plot(loads, [step.goodput for step in steps], "o--", markersize=3, **style)
        for quantile, line in _LINES.items():
            milliseconds = [step.latencies[quantile] * 1e3 for step in steps]
            waits.plot(loads, _finite(milliseconds), line, marker="o", markersize=3, **style)
            _mark_unanswered(waits, loads, milliseconds, **style)
    handles = [_line(label="answered"), *([_line(label="good", linestyle="--")] if bounded else [])]
    if len(curves) > 1:
        handles += [_line(label=f"repetition {place + 1}", color=f"C{place}") for place in range(len(curves))]
    if not closed:
        highest = max(load for curve in curves for load in curve.loads)
        rates.plot([0, highest], [0, highest], color=_GREY, linewidth=0.8, zorder=0)
        handles.append(_line(label="all that was offered", color=_GREY, linewidth=0.8))
    rates.set(ylabel="answers per second", ylim=(0, None))
    _legend_below(rates, handles)
    handles = [_line(label=name, linestyle=line) for name, line in _LINES.items()]
    if any(math.isinf(step.latencies["p99"]) for curve in curves for step in curve.steps):
        handles.append(_line(label="no answer", linestyle="none", marker="^"))
    if bounded:
        waits.axhline(good_seconds * 1e3, color=_GREY, linewidth=1, zorder=0)
        handles.append(_line(label=f"limit of good answers, {good_seconds * 1e3:g} ms", color=_GREY))
    waits.set(ylabel="latency since the scheduled start, ms", yscale="log")
    _scale_latencies(waits)
    _legend_below(waits, handles)
    for axis in (rates, waits):
        axis.set(xlabel="concurrent callers" if closed else "offered requests per second", xlim=(0, None))
        _number_steps(axis, curves)
    return _svg(figure)


def timeline_picture(run: Run, trouble: tuple[float, float] | None, *, narrow: bool = False) -> str:
    """Return a chart of requests, latencies and, if known, the server's load by second.

    Args:
        run: the run to draw.
        trouble: the begin and the end of the fault, in Unix time; the chart shades this span. None: there was no fault.
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
    upper.plot(np.bincount(due.astype(int), minlength=length), label="due", color=_GREY)
    upper.plot(np.bincount(ended[answered], minlength=length), label="answered", color="C0")
    if not answered.all():
        upper.plot(np.bincount(ended[~answered], minlength=length), label="refused or failed", color="C3")
    upper.set(ylabel="requests per second", ylim=(0, None))
    of_each = [due.astype(int) == second for second in range(length)]
    for quantile, line in _LINES.items():
        share = float(quantile[1:]) / 100
        milliseconds = [
            latency_quantile(latencies[answered & now].tolist(), share, unanswered=int((now & ~answered).sum())) * 1e3
            for now in of_each
        ]
        lower.plot(_finite(milliseconds), line, color="C0", label=quantile)
        unanswered = {"color": "C3", "label": "no answer"} if quantile == "p99" else {"color": "C3"}
        _mark_unanswered(lower, range(length), milliseconds, **unanswered)
    lower.set(ylabel="latency, ms,\nby scheduled start", yscale="log")
    _scale_latencies(lower)
    if count == 3:
        _plot_readings(axes[2], run, start)
    axes[-1].set(xlabel="seconds since the first request", xlim=(0, length))
    if trouble:
        for axis in axes:
            label = "trouble" if axis is upper else None
            axis.axvspan(trouble[0] - start, trouble[1] - start, color="#d1495b", alpha=0.12, linewidth=0, label=label)
    for axis in axes:
        _legend_above(axis, narrow=narrow)
    return _svg(figure)


def _number_steps(axis: Any, curves: Sequence[Curve]) -> None:
    """Show the numbers of the steps above the frame, as in the table of steps. Steps of similar loads share a label."""
    loads = [median(loads) for loads in zip(*(curve.loads for curve in curves), strict=True)]
    gap = _STEP_GAP * max(loads)
    groups: list[list[int]] = []
    for step in sorted(range(len(loads)), key=loads.__getitem__):
        if groups and loads[step] - loads[groups[-1][0]] < gap:
            groups[-1].append(step)
        else:
            groups.append([step])
    numbers = axis.secondary_xaxis("top")
    places = [sum(loads[step] for step in group) / len(group) for group in groups]
    labels = [", ".join(str(step + 1) for step in sorted(group)) for group in groups]
    numbers.set_xticks(places, labels, fontsize="small")
    numbers.set_xlabel("step", fontsize="small")


def _finite(values: Sequence[float]) -> list[float]:
    return [value if math.isfinite(value) else math.nan for value in values]


def _mark_unanswered(axis: Any, places: Sequence[float], values: Sequence[float], **style: Any) -> None:
    """Mark infinite latencies at the top of a chart. They come from requests without an answer."""
    found = [place for place, value in zip(places, values, strict=True) if math.isinf(value)]
    if found:
        heights, top = [_UNANSWERED] * len(found), axis.get_xaxis_transform()
        axis.plot(found, heights, linestyle="none", marker="^", markersize=5, transform=top, **style)


def _scale_latencies(axis: Any) -> None:
    """Write the latencies of a logarithmic axis as plain numbers, and leave room above the lines for marks."""
    low, high = axis.get_ylim()
    high *= max(1.15, (high / low) ** 0.1)
    axis.set_ylim(low, high)
    few = high / low > _TWO_DECADES
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0,) if few else (1.0, 2.0, 5.0)))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _line(**style: Any) -> Line2D:
    """Return an example of a line, to be shown in a legend."""
    return Line2D([], [], **{"color": "#333333", **style})


def _plot_readings(axis: Any, run: Run, start: float) -> None:
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


def _legend_below(axis: Any, handles: Sequence[Line2D]) -> None:
    """Show a legend below the label of the horizontal axis, where it covers no line."""
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.17), "ncols": 2}
    axis.legend(handles=handles, **place, frameon=False, fontsize="small", columnspacing=1, handlelength=1.8)


def _legend_above(axis: Any, *, narrow: bool) -> None:
    """Show a legend above the frame, where it covers no line. Without lines, there is no legend."""
    if axis.lines:
        # On a phone, two columns are wider than the frame. They extend to its left, above the label of the axis.
        side, corner, columns = ("right", 1, 2) if narrow else ("left", 0, 6)
        place = {"loc": f"lower {side}", "bbox_to_anchor": (corner, 1), "borderaxespad": 0.2, "ncols": columns}
        size = "x-small" if narrow else "small"
        axis.legend(**place, frameon=False, fontsize=size, columnspacing=1, handlelength=1.2)


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.tight_layout()
    figure.savefig(text, format="svg")
    plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]
