"""The recipes of the container images, judged by hadolint, and what they pin."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
LOCKS = sorted((ROOT / "docker" / "locks").glob("*.txt"))


@pytest.mark.parametrize("recipe", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(recipe: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, "--no-color", recipe], capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_an_image_holds_the_versions_that_are_tested(lock: Path) -> None:
    pins = re.compile(r"^([a-z0-9-]+)==([^\s\\]+)", re.MULTILINE)
    tested = dict(pins.findall((ROOT / "constraints.txt").read_text(encoding="utf-8")))
    locked = dict(pins.findall(lock.read_text(encoding="utf-8")))
    assert locked
    assert {name: tested.get(name) for name in locked} == locked
    for pin in re.split(r"\n(?=[a-z])", lock.read_text(encoding="utf-8"))[1:]:
        assert "--hash=sha256:" in pin
