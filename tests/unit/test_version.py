"""The version that the package and the command line report."""

from __future__ import annotations

import subprocess
from importlib.metadata import version

import pytest

import tuwen
from tests.support.command import TUWEN


def test_the_package_has_the_version_of_its_metadata() -> None:
    assert tuwen.__version__ == version("tuwen")


def test_the_command_prints_the_version() -> None:
    finished = subprocess.run([TUWEN, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert finished.stdout == f"tuwen {version('tuwen')}\n"


def test_a_missing_name_raises_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tuwen' has no attribute 'nothing'"):
        _ = tuwen.nothing
