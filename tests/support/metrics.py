"""Triton's Prometheus metrics, read for assertions."""

from __future__ import annotations

import re
import urllib.request

_SAMPLE = re.compile(r'^(\w+)\{[^}]*model="(\w+)"[^}]*\} (\S+)$', re.MULTILINE)


def text(url: str) -> str:
    """Return the text of a server's metrics page."""
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())


def counters(url: str) -> dict[tuple[str, str], float]:
    """Return the value of each metric of each model, by the names of metric and model."""
    return {(name, model): float(value) for name, model, value in _SAMPLE.findall(text(url))}
