"""`build/release.py` checks that all files state one version, and takes the release notes from the changelog."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.paths import ROOT

CHANGELOG = """# Changelog

## [Unreleased]

## [0.2.0] - 2026-12-01

### Added

- A thing.

## [0.1.0] - 2026-11-28

- The first version.

[0.2.0]: https://example.com
"""


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "build" / "release.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["release"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files of a project whose version is 0.2.0."""
    chart = tmp_path / "docker" / "kubernetes" / "Chart.yaml"
    chart.parent.mkdir(parents=True)
    chart.write_text("name: tuwen\nversion: 0.2.0\nappVersion: 0.2.0\n", encoding="utf-8")
    chart.with_name("README.md").write_text("![Version: 0.2.0](x) ![AppVersion: 0.2.0](x)\n", encoding="utf-8")
    chart.with_name("values.yaml").write_text("test:\n  image: tuwen-client:0.2.0  # a\n", encoding="utf-8")
    examples = tmp_path / "docker" / "examples"
    examples.mkdir()
    (examples / "argocd.yaml").write_text("  targetRevision: 0.2.0\n", encoding="utf-8")
    (examples / "kserve.yaml").write_text("  image: ghcr.io/tuwen-project/tuwen-server:0.2.0\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n', encoding="utf-8")
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG, encoding="utf-8")
    return tmp_path


def test_writes_the_notes_of_the_tag(release: ModuleType, project: Path) -> None:
    assert release.main(["v0.2.0", "--notes", str(project / "notes.md")], project) == 0
    assert (project / "notes.md").read_text(encoding="utf-8") == "### Added\n\n- A thing.\n"


def test_prints_the_notes_of_the_last_version(release: ModuleType) -> None:
    assert release.release_notes(CHANGELOG, "0.1.0") == "- The first version.\n"


@pytest.mark.parametrize(
    ("tag", "sentence"),
    [
        ("v0.3.0", "expected version 0.3.0 in pyproject.toml, got 0.2.0"),
        ("0.2.1", "expected version 0.2.1 in pyproject.toml, got 0.2.0"),
    ],
)
def test_rejects_a_tag_of_another_version(
    release: ModuleType, project: Path, capsys: pytest.CaptureFixture[str], tag: str, sentence: str
) -> None:
    assert release.main([tag], project) == 1
    assert capsys.readouterr().err == f"cannot release {tag}: {sentence}\n"


def test_rejects_a_chart_with_two_versions(
    release: ModuleType, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chart = project / "docker" / "kubernetes" / "Chart.yaml"
    chart.write_text("version: 0.2.0\nappVersion: 0.1.0\n", encoding="utf-8")
    assert release.main(["v0.2.0"], project) == 1
    assert "in docker/kubernetes/Chart.yaml, got 0.1.0, 0.2.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        "docker/kubernetes/values.yaml",
        "docker/kubernetes/README.md",
        "docker/examples/argocd.yaml",
        "docker/examples/kserve.yaml",
    ],
)
def test_rejects_a_file_of_the_deployment_with_the_last_version(
    release: ModuleType, project: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = project / name
    file.write_text(file.read_text(encoding="utf-8").replace("0.2.0", "0.1.0"), encoding="utf-8")
    assert release.main(["v0.2.0"], project) == 1
    assert f"expected version 0.2.0 in {name}, got 0.1.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("## [Unreleased]\n\n- A thing.\n", "expected the heading '## [0.2.0] - YYYY-MM-DD'"),
        ("## [0.2.0] - soon\n\n- A thing.\n", "expected the heading '## [0.2.0] - YYYY-MM-DD'"),
        ("## [0.2.0] - 2026-12-01\n\n## [0.1.0] - 2026-11-28\n", "lists nothing below version 0.2.0"),
    ],
)
def test_rejects_a_changelog_without_notes(
    release: ModuleType, project: Path, capsys: pytest.CaptureFixture[str], text: str, sentence: str
) -> None:
    (project / "CHANGELOG.md").write_text(text, encoding="utf-8")
    assert release.main(["v0.2.0"], project) == 1
    assert sentence in capsys.readouterr().err


def test_the_files_of_the_project_name_one_version(release: ModuleType) -> None:
    found = set().union(*release.versions(ROOT).values())
    assert len(found) == 1
    assert release.check_tag(f"v{found.copy().pop()}", release.versions(ROOT)) in found


def test_the_changelog_keeps_its_format() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    versions = [line for line in lines if line.startswith("## ")]
    assert versions[0] == "## [Unreleased]"
    assert all(re.fullmatch(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", line) for line in versions[1:])
    kinds = {line.removeprefix("### ") for line in lines if line.startswith("### ")}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
