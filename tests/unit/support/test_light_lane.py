"""The skipping of tests that need a missing library of the full environment. All other tests run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.light_lane import FULL_LIBRARIES, light_header, missing_library, without_library

PATH = Path("tests/unit/lab/test_training.py")


def failed(text: str) -> pytest.CollectReport:
    return pytest.CollectReport("test_training.py", "failed", text, [])


@pytest.mark.parametrize(
    ("error", "library"),
    [
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "torch"),
        (ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"), "torch"),
        (AssertionError("exit code 1\nsearch needs an extra (No module named 'pymilvus'): pip install"), "pymilvus"),
        (ModuleNotFoundError("No module named 'tuwen.nothing'", name="tuwen.nothing"), None),
        (AssertionError("1 != 2"), None),
        (ValueError("No module named 'torch'"), None),
    ],
)
def test_names_the_missing_library(error: Exception, library: str | None) -> None:
    assert missing_library(error) == library


def test_finds_the_import_behind_another_error() -> None:
    error = RuntimeError("search needs an extra")
    error.__cause__ = ModuleNotFoundError("No module named 'pymilvus'", name="pymilvus")
    assert missing_library(error) == "pymilvus"


def test_skips_a_module_that_imports_a_library_of_the_full_environment() -> None:
    report = without_library(failed("E   ModuleNotFoundError: No module named 'torch'"), PATH)
    assert report.outcome == "skipped"
    assert report.longrepr == (str(PATH), 0, "Skipped: needs torch, which this environment lacks")


@pytest.mark.parametrize(
    "text", ["E   ModuleNotFoundError: No module named 'nothing'", "E   SyntaxError: invalid syntax"]
)
def test_keeps_any_other_failure(text: str) -> None:
    report = failed(text)
    assert without_library(report, PATH) is report


def test_the_header_names_the_missing_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    present = FULL_LIBRARIES - {"ray", "torch"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name in present else None)
    assert light_header(every_library=False) == ["tests are skipped if they need ray, torch; `make test` runs them"]
    assert light_header(every_library=True) == []


def test_the_header_is_empty_if_every_library_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    assert light_header(every_library=False) == []
