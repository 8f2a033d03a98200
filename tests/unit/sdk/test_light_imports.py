"""Importing the SDK, its testing module or its tests loads no framework, because a framework takes seconds to load."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

HEAVY = (
    *(
        "torch",
        "transformers",
        "tokenizers",
        "tritonserver",
        "pytriton",
        "pymilvus",
        "jinja2",
        "starlette",
        "uvicorn",
        "pyarrow",
        "ray",
    ),
    *("locust", "gevent", "matplotlib"),
)

# Each step notes the heavy packages that are loaded after it.
PROGRAM = f"""
import contextlib, io, json, sys
loaded = {{}}
def note(step):
    loaded[step] = sorted(set({HEAVY!r}) & set(sys.modules))
import tuwen
note("tuwen")
import tuwen.testing
note("tuwen.testing")
import tuwen_cli
note("tuwen_cli")
import pytest
with contextlib.redirect_stdout(io.StringIO()) as shown:
    code = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "tests/unit/sdk"])
assert code == 0, shown.getvalue()
assert "test_light_imports.py" in shown.getvalue()
note("tests/unit/sdk")
print(json.dumps(loaded))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """Return the heavy packages that a new interpreter has loaded after each step, such as ``import tuwen``."""
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    content: dict[str, list[str]] = json.loads(finished.stdout.splitlines()[-1])
    return content


@pytest.mark.parametrize("step", ["tuwen", "tuwen.testing", "tuwen_cli", "tests/unit/sdk"])
def test_loads_no_framework(loaded: dict[str, list[str]], step: str) -> None:
    assert loaded[step] == []
