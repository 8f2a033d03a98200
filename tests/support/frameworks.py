"""The environment of the frameworks and vector databases, which `tests/environments.sh frameworks` makes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.paths import ENVIRONMENTS, ROOT

__all__ = ["PYTHON", "run_in_frameworks"]

PYTHON = ENVIRONMENTS / "frameworks" / "bin" / "python"


def run_in_frameworks(program: str, *arguments: str, cwd: Path = ROOT) -> str:
    """Run a program of the project with the frameworks beside the SDK, and return what it prints.

    Args:
        program: its path from the root of the project.
        arguments: of the program.
        cwd: the current folder.
    """
    assert PYTHON.exists(), "run `tests/environments.sh frameworks` first"
    finished = subprocess.run(
        [PYTHON, ROOT / program, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'client'}{os.pathsep}{ROOT}", "HAYSTACK_TELEMETRY_ENABLED": "False"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout
