"""No image is older than the oldest release of Triton that has the fixes of NVIDIA's security bulletins."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.paths import ROOT
from tuwen_cli.security_floor import outdated

DOCKER = ROOT / "docker"
FLOOR = json.loads((ROOT / "client" / "tuwen_cli" / "security_floor.json").read_text(encoding="utf-8"))
PAGES = [
    *ROOT.glob("*.md"),
    *(
        path
        for path in DOCKER.rglob("*")
        if path.suffix in (".md", ".yaml", ".tpl", ".Dockerfile") or path.name == ".env"
    ),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "client").glob("*.md"),
    *(ROOT / "build").glob("*.md"),
    *(ROOT / "loadtest").glob("*.md"),
]
NVIDIA_IMAGE = re.compile(r"nvcr\.io/nvidia/(?:tritonserver|pytorch):(\d\d\.\d\d)")


def release(text: str) -> tuple[int, int]:
    year, month = text.split(".")
    return int(year), int(month)


def images(pages: list[Path]) -> list[tuple[str, str]]:
    """For each NVIDIA image that a file names by a tag, return the file's name and the image's release."""
    return [(page.name, tag) for page in pages for tag in NVIDIA_IMAGE.findall(page.read_text(encoding="utf-8"))]


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("security_floor", DOCKER / "security_floor.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_image_is_below_the_floor() -> None:
    found = images(PAGES)
    assert {"server.Dockerfile", "deploy.md"} <= {name for name, _ in found}
    assert [image for image in found if release(image[1]) < release(FLOOR["floor"]["release"])] == []


def test_the_images_of_one_recipe_are_the_default_release() -> None:
    assert {tag for _, tag in images([DOCKER / "server.Dockerfile"])} == {FLOOR["default"]["release"]}


def test_the_floor_has_the_fix_of_every_bulletin() -> None:
    for row in FLOOR["bulletins"]:
        assert release(row["fixed_in"]) <= release(FLOOR["floor"]["release"]), row
    assert release(FLOOR["floor"]["release"]) <= release(FLOOR["default"]["release"])


def test_every_row_says_what_a_reader_needs() -> None:
    cves = [cve for row in FLOOR["bulletins"] for cve in row["cves"]]
    assert all(re.fullmatch(r"CVE-20\d\d-\d{4,6}", cve) for cve in cves)
    assert len(set(cves)) == len(cves)
    for row in FLOOR["bulletins"]:
        assert row.keys() == {"id", "published", "reaches", "cves", "fixed_in", "exposed", "barrier"}
        assert all(row.values())


@pytest.mark.parametrize("name", ["SECURITY.md", "SECURITY.zh.md"])
def test_the_security_page_is_written_from_the_file(script: ModuleType, name: str) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    assert script.with_section(page, script.PAGES[name](FLOOR)) == page


def test_a_page_without_marks_is_refused(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="expected the marks"):
        script.with_section("no marks", "text")


@pytest.mark.parametrize(
    ("version", "old"), [("2.51.0", True), ("2.72.9", True), ("2.73.0", False), ("2.75.0", False), ("3.0.0", False)]
)
def test_an_old_server_is_reported(version: str, old: bool) -> None:
    warning = outdated(version)
    assert (warning is not None) == old
    if warning:
        assert version in warning
        assert FLOOR["floor"]["release"] in warning


@pytest.mark.parametrize("version", ["", "unknown", "2"])
def test_a_version_that_cannot_be_read_is_not_judged(version: str) -> None:
    assert outdated(version) is None
