"""Runs of programs that import search frameworks or vector databases, in virtual environments of their own.

`tests/environments.sh frameworks weaviate` makes these environments.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.paths import ENVIRONMENTS, ROOT

__all__ = ["PYTHON", "run_in_frameworks"]

PYTHON = ENVIRONMENTS / "frameworks" / "bin" / "python"


def run_in_frameworks(program: str, *arguments: str, cwd: Path = ROOT, environment: str = "frameworks") -> str:
    """Run a program of the project in the virtual environment of the frameworks, and return its output.

    Args:
        program: the path of the program from the root of the project.
        arguments: the arguments of the program.
        cwd: the current folder of the program.
        environment: the name of the environment, ``frameworks`` or ``weaviate``.
    """
    python = ENVIRONMENTS / environment / "bin" / "python"
    assert python.exists(), f"run `tests/environments.sh {environment}` first"
    finished = subprocess.run(
        [python, ROOT / program, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'client'}{os.pathsep}{ROOT}", "HAYSTACK_TELEMETRY_ENABLED": "False"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout
