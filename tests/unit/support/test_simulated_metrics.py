"""The exporter of simulated series: promtool's notation, and the series of one minute."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest

from tests.support.simulated_metrics import SimulatedMetrics, values_of


@pytest.mark.parametrize(
    ("notation", "values"),
    [
        ("1x3", [1, 1, 1, 1]),
        ("0+5x2", [0, 5, 10]),
        ("10-5x1", [10, 5]),
        ("_x2 0x0 8e10x1", [None, None, 0, 8e10, 8e10]),
    ],
)
def test_reads_the_notation_of_promtool(notation: str, values: list[float | None]) -> None:
    assert values_of(notation) == values


def test_a_new_case_replaces_the_series_of_the_same_metric_of_servers_alone() -> None:
    def case(**series: str) -> dict[str, Any]:
        return {"input_series": [{"series": name, "values": values} for name, values in series.items()]}

    with SimulatedMetrics() as metrics:
        metrics.show(case(**{'up{job="tuwen",instance="a"}': "1x9", 'up{service="envoy"}': "1x9", "gpu{g}": "_x9"}))
        metrics.show(case(**{'up{job="tuwen",instance="b"}': "3x9"}))
        with urllib.request.urlopen(f"http://{metrics.address}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
    assert lines == ['simulated_up{service="envoy"} 1.0', 'simulated_up{job="tuwen",instance="b"} 3.0']
