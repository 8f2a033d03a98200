"""The plot of a training: loss and recall over its steps."""

from __future__ import annotations

from pathlib import Path

from tuwen_lab.training._state import History

__all__ = ["plot_history"]


def plot_history(history: History, path: Path) -> None:
    """Plot the loss, and below it the recall on the validation split. Vertical lines separate the stages.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    figure = Figure(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot([step for step, _ in history.losses], [loss for _, loss in history.losses], color="tab:red", linewidth=1)
    above.set_ylabel("loss")
    steps = [look.step for look in history.evaluations]
    for name, side, style in (("text to image", "text_to_image", "-"), ("image to text", "image_to_text", "--")):
        for index, (at, colour) in enumerate((("R@1", "tab:blue"), ("R@10", "tab:green"))):
            values = [getattr(look, side)[2 * index] for look in history.evaluations]
            below.plot(steps, values, style, color=colour, label=f"{name} {at}")
    below.set_ylabel("validation recall, %")
    below.set_xlabel("step")
    below.set_ylim(0, 100)
    below.grid(alpha=0.3)
    if steps:
        below.legend()
    for place, (name, first) in enumerate(history.stages):  # each label one line lower, because a stage may be short
        for axes in (above, below):
            axes.axvline(first, color="grey", linewidth=0.8, linestyle=":")
        beside = {"xytext": (3, -12 * (place + 1)), "textcoords": "offset points"}
        above.annotate(name, (first, 1), xycoords=("data", "axes fraction"), **beside)
    figure.savefig(path, dpi=120)
