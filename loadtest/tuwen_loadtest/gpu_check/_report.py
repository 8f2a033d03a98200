"""The report of a GPU check: a Markdown table, and plots with the name of the GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from tuwen_loadtest.gpu_check._results import Found, Results

__all__ = ["write_report"]

_KINDS = ("images", "texts")


def write_report(results: Results, folder: Path) -> None:
    """Write the report: ``report.md``, ``results.json``, ``encoders.png`` and ``service.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    results.write(folder / "results.json")
    (folder / "report.md").write_text("\n".join(_lines(results)) + "\n", encoding="utf-8")
    _plot_encoders(results, folder / "encoders.png")
    _plot_service(results, folder / "service.png")


def _lines(results: Results) -> Iterator[str]:
    yield f"# {results.device}, {results.cores} cores"
    yield ""
    yield "Seeded random weights; vectors compared with fp32 on the CPU; rates in items a second."
    yield ""
    sizes = sorted({size for _, _, found in _all(results) for size in found.rates["images"]})
    yield from _table(
        ["encoder alone", "kind", "largest difference", "smallest cosine", "bound", *[f"batch {n}" for n in sizes]],
        [
            [
                f"{model}, {precision}",
                kind,
                f"{found.exactness[kind].max_abs:.1e}",
                f"{found.exactness[kind].min_cosine:.7f}",
                "kept" if found.exactness[kind].within else "BROKEN",
                *[f"{found.rates[kind][size]:.0f}" for size in sizes],
            ]
            for model, precision, found in _all(results)
            for kind in _KINDS
        ],
    )
    yield from _table(
        [
            *[
                "service",
                "instances",
                "from JPEG",
                "from pixels",
                "texts",
                "one caller, p50 ms",
                "decoding, of all cores",
            ],
            *["device MiB", "host MiB"],
        ],
        [
            [
                f"{model}, {precision}",
                str(served.instances),
                *[f"{rate:.0f}" for rate in (served.jpeg_rate, served.pixel_rate, served.text_rate)],
                f"{served.alone_seconds * 1e3:.1f}",
                f"{served.decode_share:.0%}",
                "unknown" if served.device_mib is None else f"{served.device_mib:.0f}",
                f"{served.host_mib:.0f}",
            ]
            for model, precision, found in _all(results)
            for served in found.served
        ],
    )
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    yield f"Decoding a photograph of 640×480 takes {results.decode_ms:.1f} ms of a core. {versions}."


def _all(results: Results) -> Iterator[tuple[str, str, Found]]:
    for model, precisions in results.models.items():
        for precision, found in precisions.items():
            yield model, precision, found


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _plot_encoders(results: Results, path: Path) -> None:
    """Plot the items per second of the encoders alone, by batch size."""
    _, axes = plt.subplots(1, 2, figsize=(11, 4))
    for axis, kind in zip(axes, _KINDS, strict=True):
        for model, precision, found in _all(results):
            rates = found.rates[kind]
            axis.plot(list(rates), list(rates.values()), marker="o", label=f"{model}, {precision}")
        axis.set_title(f"{kind} a second, by batch size")
        axis.set_ylim(bottom=0)
        axis.legend()
    _save(results, path)


def _plot_service(results: Results, path: Path) -> None:
    """Plot the images per second of the service, by number of instances: from JPEG files, and from pixels."""
    _, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    for axis, field, title in zip(axes, ("jpeg_rate", "pixel_rate"), ("JPEG bytes", "pixels"), strict=True):
        for model, precision, found in _all(results):
            counts = [served.instances for served in found.served]
            axis.plot(counts, [getattr(one, field) for one in found.served], marker="o", label=f"{model}, {precision}")
        axis.set_title(f"images a second from {title}, by instances")
        axis.set_ylim(bottom=0)
        axis.legend()
    _save(results, path)


def _save(results: Results, path: Path) -> None:
    plt.suptitle(results.device)
    plt.tight_layout()
    plt.savefig(path, dpi=110)
    plt.close()
