"""The Helm chart, rendered by Helm itself."""

from __future__ import annotations

from typing import Any

import yaml

from tests.support.paths import ROOT

__all__ = ["CHART", "rendered"]

CHART = ROOT / "docker" / "kubernetes"


def rendered(chosen: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The objects by kind, and by what stands behind the release's name in theirs."""
    from helm_python import Chart  # there is none but for Linux

    objects: dict[str, dict[str, Any]] = {}
    for file, text in Chart.load(CHART).render(chosen, name="clip", namespace="search").items():
        if file.endswith("NOTES.txt"):
            continue
        for found in filter(None, yaml.safe_load_all(text)):
            suffix = found["metadata"]["name"].removeprefix("clip-tuwen").replace("-", "/")
            assert found["kind"] + suffix not in objects
            objects[found["kind"] + suffix] = found
    return objects
