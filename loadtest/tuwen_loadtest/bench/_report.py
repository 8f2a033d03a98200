"""The run as Markdown and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from tuwen_loadtest.bench._results import Results

__all__ = ["write_report"]

_KINDS = ("images", "texts")


def write_report(model: str, results: Results, folder: Path) -> None:
    """``report.md``, ``results.json``, ``throughput.png``, ``load.png`` and ``cost.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    results.write(folder / "results.json")
    (folder / "report.md").write_text("\n".join(_lines(model, results)) + "\n", encoding="utf-8")
    _plot_throughput(results, folder / "throughput.png")
    _plot_load(results, folder / "load.png")
    _plot_cost(results, folder / "cost.png")


def _lines(model: str, results: Results) -> Iterator[str]:
    machine = dict(results.machine)
    yield f"{model}, on {machine.pop('processor')}, cores: {machine.pop('cores')}."
    yield ""
    yield from _table(
        ["a second", "images", "over the best peer", "texts", "over the best peer", "texts over padding to 52"],
        _throughput_rows(results),
    )
    yield from _table(
        ["tuwen", "of the encoder alone", "batch", "CPU ms an item", "alone p50", "p99", "added to the encoder"],
        _service_rows(results),
    )
    yield from _table(
        ["offered load", "kind", "good of the peak", "batch", "p50", "p99", "refused", "p99 of a refusal"],
        _load_rows(results),
    )
    sizes = list(next(iter(results.decoding.values())))
    yield from _table(
        ["decoding, images a second on one core", *sizes],
        [[name, *[f"{rates[size]:.0f}" for size in sizes]] for name, rates in results.decoding.items()],
    )
    cached = [service["texts"].cached for service in results.services.values()]
    yield "- A cached text, p99: " + ", ".join(
        f"{answers.quantile(0.99) * 1e3:.2f} ms" for answers in cached if answers
    )
    started = [
        f"{name} {service['images'].ready_seconds:.1f} s, {service['images'].memory_mib:.0f} MiB"
        for name, service in results.services.items()
    ]
    yield "- From start to ready, and memory then: " + "; ".join(started)
    first = [
        f"{name} {kind} {limits['first'][kind] * 1e3:.0f} ms"
        for name, limits in results.limits.items()
        for kind in _KINDS
    ]
    yield "- What the first batch of a size takes longer than those that follow: at most " + ", ".join(first)
    worst = [f"{name} {kind} {cosine:.6f}" for name, kinds in results.cosines.items() for kind, cosine in kinds.items()]
    yield "- Worst cosine with fp32 over the work: " + ", ".join(worst)
    yield ""
    yield ", ".join(f"{name} {value}" for name, value in machine.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _throughput_rows(results: Results) -> list[list[str]]:
    images, texts = (results.best_peer(kind) for kind in _KINDS)
    padded = max(
        (peer["texts padded to 52"] for peer in results.peers.values() if "texts padded to 52" in peer), default=texts
    )
    rows = []
    for name, service in results.services.items():
        ours = service["images"].saturated.rate, service["texts"].saturated.rate
        ratios = f"{ours[0] / images:.2f}", f"{ours[1] / texts:.2f}", f"{ours[1] / padded:.2f}"
        rows.append([f"tuwen {name}", f"{ours[0]:.2f}", ratios[0], f"{ours[1]:.1f}", *ratios[1:]])
    for name, peer in results.peers.items():
        rows.append(
            [
                name,
                f"{peer['images']:.2f}",
                f"{peer['images'] / images:.2f}",
                f"{peer['texts']:.1f}",
                f"{peer['texts'] / texts:.2f}",
                "",
            ]
        )
    return rows


def _service_rows(results: Results) -> list[list[str]]:
    rows = []
    for precision, kinds in results.services.items():
        for kind, found in kinds.items():
            p50, p99 = (found.alone.quantile(share) for share in (0.5, 0.99))
            rows.append(
                [
                    f"{precision}, {kind}",
                    f"{found.saturated.rate / results.limit(precision, kind):.0%}",
                    f"{found.batch:.1f}",
                    f"{found.cpu_seconds * 1e3:.1f}",
                    f"{p50 * 1e3:.1f} ms",
                    f"{p99 * 1e3:.1f} ms",
                    f"{(p50 - results.encoder_seconds(precision, kind)) * 1e3:.1f} ms",
                ]
            )
    return rows


def _load_rows(results: Results) -> list[list[str]]:
    rows = []
    for precision, kinds in results.services.items():
        for kind, found in kinds.items():
            peak = max(found.saturated.rate, *[step.answers.rate for step in found.steps])
            for step in found.steps:
                answers = step.answers
                sent = max(1, len(answers.latencies) + len(answers.refused) + answers.failed)
                waited = sorted(answers.refused)
                rows.append(
                    [
                        f"{step.load:g} x",
                        f"{precision} {kind}",
                        f"{answers.rate / peak:.0%}",
                        f"{step.batch:.1f}",
                        *[f"{answers.quantile(share) * 1e3:.0f} ms" for share in (0.5, 0.99)],
                        f"{len(waited) / sent:.0%}",
                        f"{waited[int(0.99 * len(waited))] * 1e3:.0f} ms" if waited else "",
                    ]
                )
    return rows


def _plot_throughput(results: Results, path: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    for axis, kind in zip(axes, _KINDS, strict=True):
        bars = {name: peer[kind] for name, peer in results.peers.items() if kind in peer}
        bars |= {f"tuwen {name}": service[kind].saturated.rate for name, service in results.services.items()}
        axis.barh(
            list(bars),
            list(bars.values()),
            color=["#999999"] * len(results.peers) + ["#d1495b"] * len(results.services),
        )
        for place, (name, rate) in enumerate(bars.items()):
            axis.text(rate, place, f" {rate:.1f}", va="center")
            precision = name.removeprefix("tuwen ")
            if precision in results.limits:
                axis.plot([results.limit(precision, kind)] * 2, [place - 0.4, place + 0.4], color="black")
        axis.set_title(f"{kind} a second; black: the encoder alone")
        axis.margins(x=0.15)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _plot_load(results: Results, path: Path) -> None:
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), sharex=True)
    for column, kind in zip(axes.T, _KINDS, strict=True):
        for precision, service in results.services.items():
            steps = service[kind].steps
            loads = [step.load for step in steps]
            column[0].plot(loads, [step.answers.rate for step in steps], marker="o", label=precision)
            column[1].plot(loads, [step.answers.quantile(0.99) for step in steps], marker="o", label=precision)
        column[0].set_title(f"good {kind} a second")
        column[1].set_title("p99 in seconds, from when a request was due")
        column[1].set_yscale("log")
        column[1].set_xlabel("offered, as a multiple of the saturation")
        column[0].set_ylim(bottom=0)
        column[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _plot_cost(results: Results, path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(13, 4))
    titles = ("ms an image batch, by its size", "ms a text batch, by its size", "ms for 8 texts, by length in tokens")
    for axis, name, title in zip(axes, ("images", "texts", "lengths"), titles, strict=True):
        for precision, limits in results.limits.items():
            sizes = [int(size) for size in limits[name]]
            items = [8 if name == "lengths" else size for size in sizes]
            milliseconds = [item / rate * 1e3 for item, rate in zip(items, limits[name].values(), strict=True)]
            axis.plot(sizes, milliseconds, marker="o", label=precision)
        axis.set_title(title)
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
