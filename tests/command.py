"""The program `tuwen`, as users run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["TUWEN", "tuwen"]

TUWEN = str(Path(sys.executable).parent / "tuwen")


def tuwen(*arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run it to its end, which has to be as expected: no exit code but `code`, unless None, and no traceback ever."""
    finished = subprocess.run([TUWEN, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert code in (None, finished.returncode), finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    return finished
