"""A command that prints help, or an error about its arguments, starts quickly because it imports few libraries."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer

from tests.import_times import measured, table
from tests.support.paths import ROOT
from tuwen_cli.commands import _TARGETS, _summary_of
from tuwen_cli.main import _app

FRAMEWORKS = (
    *(
        "torch",
        "transformers",
        "tokenizers",
        "safetensors",
        "pymilvus",
        "nicegui",
        "pyarrow",
        "ray",
        "locust",
        "gevent",
    ),
    *("matplotlib", "httpx", "starlette", "fastapi", "uvicorn", "opentelemetry"),
)
LIBRARIES = ("numpy", "PIL", "grpc", "tritonclient", "tqdm", *FRAMEWORKS)
PACKAGES = ("tuwen", "tuwen_build", "tuwen_edge", "tuwen_files", "tuwen_lab", "tuwen_loadtest", "tuwen_search")

# Runs all command lines in one interpreter, and prints the modules that are loaded after each of them.
PROGRAM = """
import contextlib, io, json, sys
from tuwen_cli import main
loaded = {}
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["tuwen", *arguments]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            main()
    loaded[" ".join(arguments)] = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps(loaded))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Return the top-level modules that are loaded after each command line, in one process for all lines."""
    lines = [["--help"], ["no-such-command"], *([name, "--help"] for name in _TARGETS), ["build", "--no-such-option"]]
    command = [sys.executable, "-c", PROGRAM, json.dumps(lines)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    return {line: set(names) for line, names in json.loads(finished.stdout).items()}


@pytest.mark.parametrize("line", ["--help", "no-such-command"])
def test_the_overview_and_a_wrong_command_load_no_library(loaded: dict[str, set[str]], line: str) -> None:
    assert not loaded[line] & {*LIBRARIES, *PACKAGES}


def test_the_help_of_every_command_and_a_wrong_option_load_no_framework(loaded: dict[str, set[str]]) -> None:
    assert len(loaded) > len(_TARGETS)
    for line, names in loaded.items():
        assert not names & set(FRAMEWORKS), line


@pytest.mark.parametrize("name", _TARGETS)
def test_the_overview_says_what_the_help_of_a_command_says(name: str) -> None:
    group = typer.main.get_command(_app)
    assert _summary_of(name).splitlines()[0] == group.commands[name].help.splitlines()[0]  # type: ignore[attr-defined]


def test_a_start_is_measured_with_its_imports() -> None:
    start = measured("--help", runs=1)
    assert start.seconds > 0
    assert start.modules > 100
    assert not start.large
    assert table([start]).splitlines()[-1].startswith("| `tuwen --help` | ")


def test_the_table_of_starts_has_every_command() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert [name for name in _TARGETS if f"| `tuwen {name} --help` | " not in page] == []


def test_a_mistyped_command_gets_a_suggestion() -> None:
    command = [sys.executable, "-m", "tuwen_cli", "evaluat"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 2
    assert "evaluate" in finished.stderr
