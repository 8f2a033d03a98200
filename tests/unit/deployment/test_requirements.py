"""The requirements of the extras. None of the extras pins numpy, or a package that needs numpy, to an old release."""

from __future__ import annotations

import re

import pytest

from tests.support.paths import ROOT
from tuwen_server import PACKAGES

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}


@pytest.mark.parametrize("extra", EXTRAS)
def test_no_extra_requires_an_old_numpy_or_the_server_s_wheel(extra: str) -> None:
    names = {re.split(r"[^\w-]", requirement)[0]: requirement for requirement in EXTRAS[extra]}
    assert "nvidia-pytriton" not in names
    assert "<" not in names.get("numpy", "")


def test_tests_run_with_a_numpy_that_the_server_cannot_use() -> None:
    """The tests run with a numpy that the embedded server cannot use.

    With the server's own version, no test would notice that the server's private numpy is missing.
    """
    pins = re.findall(r"^numpy==(\d+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pins
    assert all(int(major) >= 2 for major in pins)
    assert PACKAGES["numpy"].startswith("1.")


def test_every_extra_is_used_by_the_test_of_fresh_environments() -> None:
    script = (ROOT / "tests" / "fresh_extras.sh").read_text(encoding="utf-8")
    used = set(re.findall(r"^use_([\w-]+)\(\)", script, re.MULTILINE))
    assert used == {*PROJECT["optional-dependencies"], "sdk", "all"}
