"""checkov reports no problem in the images' Dockerfiles and in the chart's Kubernetes objects."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.chart import EVERYTHING, rendered
from tests.support.checkov import checkov
from tests.support.paths import ROOT


def test_checkov_finds_nothing_in_the_dockerfiles() -> None:
    assert "dockerfile scan results" in checkov("dockerfile", ROOT / "docker")


def test_checkov_finds_nothing_in_the_chart_with_everything_enabled(tmp_path: Path) -> None:
    pytest.importorskip("helm_python", reason="the package of Helm exists for Linux only")
    objects = rendered(EVERYTHING).values()
    (tmp_path / "objects.yaml").write_text("---\n".join(map(yaml.safe_dump, objects)), encoding="utf-8")
    assert "kubernetes scan results" in checkov("kubernetes", tmp_path)
