"""Plots of measurements. Needs matplotlib (``tuwen[evaluate]``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen import InvalidArgumentError
from tuwen_files.replacing import replacing
from tuwen_lab.evaluation._zero_shot import ZeroShotReport
from tuwen_lab.evaluation.calibration import Calibration

__all__ = ["plot_calibration", "plot_confusion"]

_CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "SimHei",
    "PingFang SC",
)
_BINS = 40
_NAMED = 40  # the names of more classes would overlap


def plot_confusion(report: ZeroShotReport, path: Path) -> None:
    """Plot a confusion matrix, each row in percent of its class.

    Raises:
        ImportError: matplotlib is not installed.
        InvalidArgumentError: the file cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415 - an extra
    from matplotlib import font_manager  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    sizes = np.maximum(report.confusion.sum(axis=1, keepdims=True), 1)
    installed = {font.name for font in font_manager.fontManager.ttflist}
    fonts = [name for name in _CHINESE_FONTS if name in installed]
    count = len(report.labels)
    named = count <= _NAMED and (bool(fonts) or all(label.isascii() for label in report.labels))
    with mpl.rc_context({"font.family": [*fonts, "DejaVu Sans"]}):
        side = min(4 + 0.25 * count, 14)
        figure = Figure(figsize=(side + 1.5, side), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(report.confusion / sizes * 100, cmap="viridis", vmin=0, vmax=100)
        names = report.labels if named else [str(index) for index in range(count)]
        if count <= _NAMED:
            axes.set_xticks(range(count), names, rotation=90)
            axes.set_yticks(range(count), names)
        axes.set_xlabel("label given")
        axes.set_ylabel("class")
        axes.set_title(f"top-1 {report.top1:.1f} %, top-5 {report.top5:.1f} %, {report.images} images")
        figure.colorbar(image, label="percent of the class")
        _save(figure, path)


def plot_calibration(
    positives: NDArray[np.float32], negatives: NDArray[np.float32], calibration: Calibration, path: Path
) -> None:
    """Plot the scores of judged pictures. A second plot shows recall and false positives at every threshold.

    Raises:
        ImportError: matplotlib is not installed.
        InvalidArgumentError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    figure = Figure(figsize=(8, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    bins = np.linspace(min(positives.min(), negatives.min()), max(positives.max(), negatives.max()), _BINS)
    for scores, name, color in ((negatives, "negative", "#8a8a8e"), (positives, "positive", "#0a7d4f")):
        shares = np.full(len(scores), 1 / len(scores))
        above.hist(scores, bins, weights=shares, alpha=0.6, color=color, label=f"{name} ({len(scores):,})")
    above.set_ylabel("share of each kind")
    thresholds = np.sort(np.concatenate([positives, negatives]))
    for scores, name, color in (
        (positives, "recall: positives accepted", "#0a7d4f"),
        (negatives, "false positives: negatives accepted", "#8a8a8e"),
    ):
        accepted = 1 - np.searchsorted(np.sort(scores), thresholds) / len(scores)
        below.plot(thresholds, accepted, color=color, label=name)
    below.set_ylabel("share accepted")
    below.set_xlabel("score (cosine with the texts)")
    for axes in (above, below):
        axes.axvline(calibration.cosine, color="#c0392b", label=f"threshold {calibration.cosine:.3f}")
        axes.legend(loc="best")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    """Write a figure completely or not at all, in the format of the file's suffix."""
    with replacing(path) as scratch:
        try:
            figure.savefig(scratch, dpi=120, format=path.suffix[1:] or "png")
        except ValueError as error:
            raise InvalidArgumentError(f"cannot write '{path}': {error}") from error
