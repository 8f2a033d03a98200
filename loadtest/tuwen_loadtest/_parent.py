"""Ending a Locust process whose parent, `tuwen loadtest`, was killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["PARENT", "end_with_parent"]

PARENT = "TUWEN_LOADTEST_PARENT"
"""The environment variable that holds the process id of the `tuwen loadtest` that started Locust."""
_LOOK_SECONDS = 1.0


def end_with_parent(
    samples: Path | None,
    *,
    sleep: Callable[[float], object],
    parent: Callable[[], int] = os.getppid,
    end: Callable[[int], object] = os._exit,
) -> None:
    """Wait until the parent that the environment names has died, then remove the samples and end this process.

    Without the variable Locust was started by hand, and the function returns at once.

    Args:
        samples: the file that the parent would have read; its folder is removed if nothing else is in it.
        sleep: waits for a number of seconds while Locust goes on.
        parent: returns the process id of the present parent.
        end: ends this process with an exit code, at once.
    """
    expected = os.environ.get(PARENT)
    if expected is None:
        return
    while str(parent()) == expected:
        sleep(_LOOK_SECONDS)
    if samples is not None:
        with suppress(OSError):
            samples.unlink(missing_ok=True)
            samples.parent.rmdir()
    end(1)
