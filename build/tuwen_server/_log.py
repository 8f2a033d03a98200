"""tritonserver's log: kept, passed on, and searched for the lines that tell why it failed."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

__all__ = ["LogFollower", "is_problem"]

_KEPT_LINES = 2_000
_SHOWN_LINES = 15
_ERROR = re.compile(r"^E\d{4} |^error: |Signal \((?!15\))|loading shared libraries")
# What tritonserver 2.51 reports as an error on every machine without a GPU.
_NO_GPU = re.compile(r"CudaDriverHelper has not been initialized|unable to create stream for|CUDA memory pool disabled")
# A warning of our `pytorch` backend, which operators should see.
_WARNING = re.compile(r'^W\d{4} [^\]]*\] "?tuwen: ')
# "E1121 08:37:22.160553 3982 model_lifecycle.cc:642] " in front of a message, and a traceback behind it
_PREFIX = re.compile(r"^E\d{4} \S+ +\d+ [\w.]+:\d+\] ")
_TRACEBACK = re.compile(r"\\n\\nAt:\\n.*")


def is_problem(line: str) -> bool:
    """Whether a line of the log is an error or a warning of ours; the complaints of a machine without a GPU are not."""
    return bool(_ERROR.search(line) or _WARNING.search(line)) and not _NO_GPU.search(line)


class LogFollower:
    """Reads the server's output in a thread of its own until the server closes it.

    A file that cannot be written, on a full disk, lacks lines, and so does a callback that fails, such as one that
    writes to a closed pipe. The server goes on: with nobody reading its output it would soon wait for ever.

    Args:
        stream: the server's output.
        file: where every line is written, if anywhere.
        on_line: called with every line, if given, and told when lines begin to be lost.
    """

    def __init__(self, stream: IO[str], file: Path | None, on_line: Callable[[str], None] | None) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._stream = stream
        self._file = file
        self._on_line = on_line
        self._shown = self._writes = True
        self._thread = threading.Thread(target=self._follow, name="tritonserver-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait for the rest of the output of a server that has ended."""
        self._thread.join(timeout=5)
        if not self._thread.is_alive():  # closing under a thread that still reads would wait for ever
            self._stream.close()

    def telling_lines(self) -> str:
        """The lines that say what went wrong: the errors without their tracebacks, or else the last lines."""
        lines = list(self._lines)
        errors = [_TRACEBACK.sub("", _PREFIX.sub("", line)).strip('"') for line in lines if is_problem(line)]
        return "\n".join(list(dict.fromkeys(errors))[-_SHOWN_LINES:] or lines[-_SHOWN_LINES:])

    def add(self, line: str) -> None:
        """Add a line of our own to the log, such as an error while the server is stopped."""
        self._pass_on(line, f"{line}\n")

    def _follow(self) -> None:
        for raw in self._stream:
            self._pass_on(raw.rstrip("\n"), raw)

    def _pass_on(self, line: str, raw: str) -> None:
        self._lines.append(line)
        was_shown, self._shown = self._shown, self._show(line)
        if was_shown and not self._shown:
            self._keep("error: the log callback failed, and lacks lines from now on")
        if self._file:
            was_written, self._writes = self._writes, self._written(raw)
            if was_written and not self._writes:
                lost = f"error: {self._file} cannot be written, and lacks lines from now on"
                self._lines.append(lost)
                self._show(lost)

    def _keep(self, line: str) -> None:
        self._lines.append(line)
        if self._file:
            self._written(f"{line}\n")

    def _show(self, line: str) -> bool:
        """Call the callback, and return whether it took the line."""
        if self._on_line is None:
            return True
        try:
            self._on_line(line)
        except Exception:  # whatever it raises: if the reading ended, tritonserver would block in a full pipe
            return False
        return True

    def _written(self, line: str) -> bool:
        assert self._file is not None  # noqa: S101 - asked by the caller
        try:
            # opened for each line, of which there are few: so a file that was rotated away or deleted is made anew
            with self._file.open("ab", buffering=0) as sink:
                sink.write(line.encode())
        except OSError:
            return False
        return True
