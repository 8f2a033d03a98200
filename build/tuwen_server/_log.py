"""tritonserver's log: written to a file, passed to a callback, and searched for the cause of a failure."""

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
_ERROR = re.compile(r"^E\d{4} |^error: |^terminate called|Signal \((?!15\))|loading shared libraries")
# Messages that tritonserver 2.51 logs as errors on every machine without a GPU.
_NO_GPU = re.compile(r"CudaDriverHelper has not been initialized|unable to create stream for|CUDA memory pool disabled")
# A message about a model that is loaded without a file of its configuration, as an alias is.
_NO_CONFIG_FILE = re.compile(r"Failed to set config modification time: model_config_content_name_ is empty")
# A warning of our `pytorch` backend, which operators should see.
_WARNING = re.compile(r'^W\d{4} [^\]]*\] "?tuwen: ')
_CHANGE = re.compile(r"\bsuccessfully (?:un)?loaded '")
# "E1121 08:37:22.160553 3982 model_lifecycle.cc:642] " before a message, and a traceback after it
_PREFIX = re.compile(r"^E\d{4} \S+ +\d+ [\w.]+:\d+\] ")
_TRACEBACK = re.compile(r"\\n\\nAt:\\n.*")


def is_problem(line: str) -> bool:
    """Return whether a line of the log is an error, or a warning of our backend.

    The errors that every machine without a GPU reports do not count.
    """
    if _NO_GPU.search(line) or _NO_CONFIG_FILE.search(line):
        return False
    return bool(_ERROR.search(line) or _WARNING.search(line))


class LogFollower:
    """A reader of the server's output, in its own thread, until the server closes the output.

    If the file cannot be written (full disk) or the callback fails (closed pipe), lines are lost there. The output is
    still read, because the server would block on a full pipe.

    Args:
        stream: the server's output.
        file: the file to which every line is appended; None: no file.
        on_line: a function that is called with every line, and with a message when lines begin to be lost; None: no
            function.
    """

    def __init__(self, stream: IO[str], file: Path | None, on_line: Callable[[str], None] | None) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._stream = stream
        self._file = file
        self._on_line = on_line
        self._shown = self._writes = True
        self._changes = 0
        self._thread = threading.Thread(target=self._follow, name="tritonserver-log", daemon=True)
        self._thread.start()

    @property
    def changes(self) -> int:
        """The number of times that a model was loaded or unloaded; always 0 if the log lacks INFO messages."""
        return self._changes

    def close(self) -> None:
        """Wait for the rest of the output of a server that has ended."""
        self._thread.join(timeout=5)
        if not self._thread.is_alive():  # closing the stream while a thread reads it would block for ever
            self._stream.close()

    def telling_lines(self) -> str:
        """Return the lines that explain a failure: errors without their tracebacks, or else the last lines."""
        lines = list(self._lines)
        errors = [_TRACEBACK.sub("", _PREFIX.sub("", line)).strip('"') for line in lines if is_problem(line)]
        return "\n".join(list(dict.fromkeys(errors))[-_SHOWN_LINES:] or lines[-_SHOWN_LINES:])

    def add(self, line: str) -> None:
        """Add a line of tuwen to the log, such as an error while the server stops."""
        self._pass_on(line, f"{line}\n")

    def _follow(self) -> None:
        for raw in self._stream:
            self._changes += bool(_CHANGE.search(raw))
            self._pass_on(raw.rstrip("\n"), raw)

    def _pass_on(self, line: str, raw: str) -> None:
        self._lines.append(line)
        was_shown, self._shown = self._shown, self._show(line)
        if was_shown and not self._shown:
            self._keep("error: the log callback failed; it may miss lines from now on")
        if self._file:
            was_written, self._writes = self._writes, self._written(raw)
            if was_written and not self._writes:
                lost = f"error: cannot write {self._file}; it may miss lines from now on"
                self._lines.append(lost)
                self._show(lost)

    def _keep(self, line: str) -> None:
        self._lines.append(line)
        if self._file:
            self._written(f"{line}\n")

    def _show(self, line: str) -> bool:
        """Call the callback, and return whether it succeeded."""
        if self._on_line is None:
            return True
        try:
            self._on_line(line)
        except Exception:  # any error: without a reader, tritonserver would block on a full pipe
            return False
        return True

    def _written(self, line: str) -> bool:
        assert self._file is not None  # noqa: S101 - asked by the caller
        try:
            # Opened for each line, because lines are few, so that a rotated or deleted file is created again.
            with self._file.open("ab", buffering=0) as sink:
                sink.write(line.encode())
        except OSError:
            return False
        return True
