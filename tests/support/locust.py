"""Runs of Locust with the project's users, in a process of their own, because Locust patches the standard library."""

from __future__ import annotations

import subprocess
import sys

from tests.support.paths import ROOT
from tuwen_repository.samples import sample

__all__ = ["PICTURES", "locust", "run_locust"]

PICTURES = str(sample("cat.jpg").parent)
"""A folder with the pictures that the users send."""
_LOCUSTFILE = ROOT / "loadtest" / "locustfile.py"
_LIMIT = 240.0  # seconds


def locust(*arguments: str) -> subprocess.Popen[str]:
    """Start Locust with the users of the project."""
    command = [sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--images", PICTURES, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run_locust(*arguments: str, code: int = 0) -> str:
    """Run Locust to its end and return what it printed.

    Args:
        arguments: further arguments of Locust's command line.
        code: the exit code that Locust must have.
    """
    process = locust("--headless", "--only-summary", *arguments)
    try:
        output, _ = process.communicate(timeout=_LIMIT)
    finally:
        process.kill()
    assert process.returncode == code, output
    return output
