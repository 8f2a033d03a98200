"""The plots in the report of a benchmark."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from tuwen_loadtest.bench._results import KINDS, Results

__all__ = ["plot_cost", "plot_load", "plot_throughput"]


def plot_throughput(results: Results, path: Path) -> None:
    """Plot the throughput of all measured programs under saturation, as the median over the rounds."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    for axis, kind in zip(axes, KINDS, strict=True):
        bars = {name: median(peer[kind]) for name, peer in results.peers.items()}
        bars |= {f"tuwen {name}": median(results.throughput(name, kind)) for name in results.rounds}
        axis.barh(
            list(bars),
            list(bars.values()),
            color=["#999999"] * len(results.peers) + ["#d1495b"] * len(results.rounds),
        )
        for place, (name, rate) in enumerate(bars.items()):
            axis.text(0, place, f"  {rate:.1f}", va="center", color="white")
            if rounds := results.rounds.get(name.removeprefix("tuwen ")):
                limit = median(found.encoder.rate for found in rounds[kind])
                axis.plot([limit] * 2, [place - 0.4, place + 0.4], color="black")
        axis.set_title(f"{kind} a second; black: the encoder alone")
        axis.margins(x=0.15)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_load(results: Results, path: Path) -> None:
    """Plot the latency and goodput of each offered rate, over all rounds."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), sharex=True)
    for column, kind in zip(axes.T, KINDS, strict=True):
        for precision in results.rounds:
            found = results.loads(precision, kind)
            loads = [step.load for step in found]
            column[0].plot(loads, [step.rate for step in found], marker="o", label=precision)
            column[1].plot(loads, [step.answers.quantile(0.99) for step in found], marker="o", label=precision)
        column[0].set_title(f"good {kind} a second")
        column[1].set_title("p99 in seconds since the scheduled start")
        column[1].set_yscale("log")
        column[1].set_xlabel("offered, as a multiple of the saturation")
        column[0].set_ylim(bottom=0)
        column[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_cost(results: Results, path: Path) -> None:
    """Plot the time of a batch in the encoder alone, by batch size and by length of texts."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4))
    titles = ("ms an image batch, by its size", "ms a text batch, by its size", "ms for 8 texts, by length in tokens")
    for axis, name, title in zip(axes, (*KINDS, "lengths"), titles, strict=True):
        for precision, curves in results.curves.items():
            sizes = list(curves[name])
            axis.plot(sizes, [curves[name][size].median * 1e3 for size in sizes], marker="o", label=precision)
        axis.set_title(title)
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
