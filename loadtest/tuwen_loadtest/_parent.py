"""A Locust process ends if `tuwen loadtest`, its parent process, was killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["PARENT", "end_with_parent"]

PARENT = "TUWEN_LOADTEST_PARENT"
"""The environment variable with the process ID of the `tuwen loadtest` that started Locust."""
_LOOK_SECONDS = 1.0


def end_with_parent(
    samples: Path | None,
    *,
    sleep: Callable[[float], object],
    parent: Callable[[], int] = os.getppid,
    end: Callable[[int], object] = os._exit,
) -> None:
    """Wait until the parent process has died, then remove the samples and end this process.

    If the environment variable `PARENT` is missing, a user started Locust. Then the function returns at once.

    Args:
        samples: the file with the samples for the parent. The function also removes the folder of the file, if the
            folder is empty then. None: there is no file.
        sleep: a function that waits for a number of seconds without blocking Locust.
        parent: a function that returns the process ID of the current parent.
        end: a function that ends this process at once with an exit code.
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
