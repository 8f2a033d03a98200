"""Programs, as users run them: `tuwen` to its end, and others beside a test."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["TUWEN", "started", "tuwen", "wait_until"]

TUWEN = str(Path(sys.executable).parent / "tuwen")


def tuwen(*arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run it to its end, which has to be as expected: no exit code but `code`, unless None, and no traceback ever."""
    finished = subprocess.run([TUWEN, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert code in (None, finished.returncode), finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    return finished


@contextmanager
def started(command: Sequence[str | Path], **settings: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program beside the test, whose end is waited for. A test that fails ends it, and does not wait for ever.

    Args:
        settings: those of :class:`subprocess.Popen`.
    """
    with subprocess.Popen(command, **settings) as process:
        try:
            yield process
        except BaseException:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:  # it may wait for somebody to read what it says
                process.kill()
            raise


def wait_until(
    condition: Callable[[], object], *, seconds: float = 60, running: subprocess.Popen[Any] | None = None
) -> None:
    """Until something is so, which has to come before the time is over and before a program ends."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert running is None or running.poll() is None, f"ended before: exit code {running.returncode}"
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
