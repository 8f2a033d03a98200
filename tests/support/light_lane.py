"""The skipping of tests in the light environment of `make check`, which has no torch, Ray, Helm or browser.

A test that needs a library of the full environment is skipped if the library is not installed. `make test` passes
``--every-library``, which makes a missing library an error, so that no test is skipped by mistake.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

__all__ = ["FULL_LIBRARIES", "light_header", "missing_library", "without_library"]

FULL_LIBRARIES = frozenset(
    {
        "gevent",
        "helm_python",
        "jinja2",
        "locust",
        "matplotlib",
        "milvus_lite",
        "peft",
        "playwright",
        "pyarrow",
        "pymilvus",
        "ray",
        "resvg_py",
        "safetensors",
        "torch",
        "transformers",
    }
)
"""The modules that only the full environment has."""

_MISSING = re.compile(r"No module named '(\w+)")


def light_header(*, every_library: bool) -> list[str]:
    """Return the lines of pytest's header about missing libraries.

    The list is empty if every library is installed, or if ``--every-library`` makes a missing library an error.
    """
    missing = [] if every_library else sorted(name for name in FULL_LIBRARIES if importlib.util.find_spec(name) is None)
    return [f"tests are skipped if they need {', '.join(missing)}; `make test` runs them"] if missing else []


def missing_library(error: BaseException) -> str | None:
    """Return the library of the full environment whose import failed, or None if the error has another cause.

    If the import failed in a program that the test started, the program's message is part of the error's text.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (ModuleNotFoundError, AssertionError)):
            return _last_library(str(cause))
        cause = cause.__cause__ or cause.__context__
    return None


def without_library(report: pytest.CollectReport, path: Path) -> pytest.CollectReport:
    """Return a report that skips a module or folder, if its collection failed because of a missing library.

    Any other report is returned unchanged.

    Args:
        report: pytest's report of the collection.
        path: the module or folder.
    """
    library = _last_library(str(report.longrepr)) if report.outcome == "failed" else None
    if library is None:
        return report
    reason = f"Skipped: needs {library}, which this environment lacks"
    return pytest.CollectReport(report.nodeid, "skipped", (str(path), 0, reason), [], sections=report.sections)


def _last_library(text: str) -> str | None:
    """Return the module that the last failed import in a text names, if it belongs to the full environment alone."""
    found = _MISSING.findall(text)
    return found[-1] if found and found[-1] in FULL_LIBRARIES else None
