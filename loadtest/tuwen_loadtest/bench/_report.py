"""The report of a benchmark, as a Markdown file with plots."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from tuwen_loadtest.bench._plots import plot_cost, plot_load, plot_throughput
from tuwen_loadtest.bench._priority import JOBS
from tuwen_loadtest.bench._results import KINDS, PADDED, Results, pooled
from tuwen_loadtest.bench._waits import WAIT
from tuwen_loadtest.bench.interactive import interactive_lines

__all__ = ["write_report"]

# The columns of one caller: time of an item in the encoder without a service, in the service, and the difference.
_LONE = ("an item by the encoder", "by tuwen, p50", "p99", "added")


def write_report(model: str, results: Results, folder: Path) -> None:
    """Write the report: ``report.md``, ``results.json``, ``throughput.png``, ``load.png`` and ``cost.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    results.write(folder / "results.json")
    (folder / "report.md").write_text("\n".join(_lines(model, results)) + "\n", encoding="utf-8")
    plot_throughput(results, folder / "throughput.png")
    plot_load(results, folder / "load.png")
    plot_cost(results, folder / "cost.png")


def _lines(model: str, results: Results) -> Iterator[str]:
    machine = dict(results.machine)
    yield f"{model}, on {machine.pop('processor')}, cores: {machine.pop('cores')}."
    yield ""
    yield from _table(
        ["a second", "images", "over the best peer", "texts", "over the best peer", "texts over padding to 52"],
        _throughput_rows(results),
    )
    yield from _table(
        ["tuwen", "of the encoder alone", "batch", "CPU ms an item", *_LONE],
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
    yield from _table(
        [
            f"calls of a tiny model: those over {WAIT * 1e3:.0f} ms, which waited for the batcher",
            "",
            "longest",
        ],
        [
            [name, f"{waits.waited} in {waits.calls}", f"{waits.longest * 1e3:.0f} ms"]
            for name, waits in results.waits.items()
        ],
    )
    if results.bursts or results.beside_streams:
        yield from interactive_lines(results.bursts, results.beside_streams)
    beside = ", ".join(f"{seconds * 1e3:.0f} ms ({priority})" for priority, seconds in results.beside_jobs.items())
    yield f"- One caller of a tiny model beside {JOBS} jobs, p50 by the priority of the jobs: {beside}"
    yield "- A cached text, p50 and p99: " + ", ".join(
        f"{name} {cached.quantile(0.5) * 1e3:.2f} and {cached.quantile(0.99) * 1e3:.2f} ms"
        for name, kinds in results.rounds.items()
        for cached in [pooled(found.cached for found in kinds["texts"] if found.cached)]
    )
    started = [f"{name} {start.seconds:.1f} s, {start.memory_mib:.0f} MiB" for name, start in results.starts.items()]
    yield "- From start to ready, and memory then: " + "; ".join(started)
    first = [
        f"{name} {kind} {max(timing.first for size, timing in curves[kind].items() if size > 1) * 1e3:.0f} ms"
        for name, curves in results.curves.items()
        for kind in KINDS
    ]
    yield "- Additional time of the first batch of a size: at most " + ", ".join(first)
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
    images, texts, padded = (results.best_peer(task) for task in (*KINDS, PADDED))
    rows = []
    for precision in results.rounds:
        ours = [results.throughput(precision, kind) for kind in KINDS]
        ratios = _ratio(ours[0], images), _ratio(ours[1], texts), _ratio(ours[1], padded)
        rates = f"{median(ours[0]):.2f}", f"{median(ours[1]):.1f}"
        rows.append([f"tuwen {precision}", rates[0], ratios[0], rates[1], *ratios[1:]])
    for name, peer in results.peers.items():
        rates = f"{median(peer['images']):.2f}", f"{median(peer['texts']):.1f}"
        rows.append([name, rates[0], _ratio(peer["images"], images), rates[1], _ratio(peer["texts"], texts), ""])
    return rows


def _service_rows(results: Results) -> list[list[str]]:
    rows = []
    for precision, kinds in results.rounds.items():
        for kind, rounds in kinds.items():
            alone = pooled(found.alone.answers for found in rounds)
            added = [found.alone.added * 1e3 for found in rounds]
            rows.append(
                [
                    f"{precision}, {kind}",
                    _ratio(results.throughput(precision, kind), [found.encoder.rate for found in rounds]),
                    f"{median(found.saturated.batch for found in rounds):.1f}",
                    f"{median(found.saturated.cpu_seconds for found in rounds) * 1e3:.1f}",
                    f"{median(found.encoder_alone.median for found in rounds) * 1e3:.1f} ms",
                    *[f"{alone.quantile(share) * 1e3:.1f} ms" for share in (0.5, 0.99)],
                    f"{_spread(added, '.1f')} ms",
                ]
            )
    return rows


def _load_rows(results: Results) -> list[list[str]]:
    rows = []
    for precision, kinds in results.rounds.items():
        for kind in kinds:
            loads = results.loads(precision, kind)
            peak = max(load.rate for load in loads)
            for load in loads:
                answers = load.answers
                sent = max(1, len(answers.latencies) + len(answers.refused) + answers.failed)
                waited = sorted(answers.refused)
                rows.append(
                    [
                        f"{load.load:g} x",
                        f"{precision} {kind}",
                        f"{load.rate / peak:.0%}",
                        f"{load.batch:.1f}",
                        *[_milliseconds(answers.quantile(share)) for share in (0.5, 0.99)],
                        f"{len(waited) / sent:.0%}",
                        f"{waited[int(0.99 * len(waited))] * 1e3:.0f} ms" if waited else "",
                    ]
                )
    return rows


def _milliseconds(seconds: float) -> str:
    return "not answered" if math.isinf(seconds) else f"{seconds * 1e3:.0f} ms"


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the ratio of two measurements in each round."""
    return _spread([mine / other for mine, other in zip(ours, theirs, strict=True)], ".2f")


def _spread(values: Sequence[float], form: str) -> str:
    """Return the median of values as text, with their range if there are several values."""
    if len(values) == 1:
        return format(values[0], form)
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
