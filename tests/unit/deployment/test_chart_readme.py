"""The chart's README describes every value in the format of helm-docs. The packaged chart contains this README."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.chart_readme import PAGE, readme, rows
from tests.support.paths import ROOT

CHART = ROOT / "docker" / "kubernetes"
VALUES = (CHART / "values.yaml").read_text(encoding="utf-8")


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_the_page_is_up_to_date() -> None:
    chart = (CHART / "Chart.yaml").read_text(encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == readme(chart, VALUES), "run: python docs/chart_readme.py"


def test_every_value_has_a_row_with_a_description() -> None:
    found = {key: description for key, _, _, description in rows(VALUES)}
    assert [key for key, description in found.items() if not description] == []
    for leaf in leaves(yaml.safe_load(VALUES)):
        assert any(leaf == key or leaf.startswith(f"{key}.") for key in found), leaf


def test_a_row_is_made_of_the_comments_above_and_beside_a_value() -> None:
    text = """# Not of a value.

# About the group.
group:
  # Above,
  # twice,
  number: 2  # and beside | it.
  share: 0.5  # A share.

  text: "a  # b"  # A text.
  labels: {a: b}  # Labels.
  names: []  # Names.
"""
    assert list(rows(text)) == [
        ("group", "object", "see below", "About the group."),
        ("group.number", "int", "`2`", "Above, twice, and beside \\| it."),
        ("group.share", "float", "`0.5`", "A share."),
        ("group.text", "string", '`"a  # b"`', "A text."),
        ("group.labels", "object", '`{"a": "b"}`', "Labels."),
        ("group.names", "list", "`[]`", "Names."),
    ]


def test_the_package_has_the_version_of_the_project_and_all_files(tmp_path: Path) -> None:
    helm = pytest.importorskip("helm_python", reason="the package of Helm exists for Linux only")
    archive = Path(helm.package(CHART, destination=tmp_path))
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert archive.name == f"tuwen-{version}.tgz"
    with tarfile.open(archive) as packaged:
        names = {name.removeprefix("tuwen/") for name in packaged.getnames()}
    expected = {path.relative_to(CHART).as_posix() for path in CHART.rglob("*") if path.is_file()}
    assert names == expected
    assert helm.lint(archive, {}, strict=True)["messages"] is not None
