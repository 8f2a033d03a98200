"""The command line `tuwen`, run in the test's process or as a process of its own, and other programs beside a test."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["TUWEN", "started", "tuwen", "tuwen_here", "tuwen_process", "wait_until"]

TUWEN = str(Path(sys.executable).parent / "tuwen")
"""The installed script."""


def tuwen(*arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, as the installed script would, and return what it printed.

    An exception that the command line does not turn into an exit code fails the test with its traceback. The current
    directory, the environment and signal handlers are afterwards as they were before. Text is wrapped at 200 columns
    unless the test sets COLUMNS.

    Args:
        arguments: the arguments, as a user types them after `tuwen`.
        code: the exit code that the command must have; None accepts every exit code.
    """
    if arguments[:1] == ("loadtest",):  # Locust replaces parts of the standard library in its whole process
        return tuwen_process(*arguments, code=code)
    return tuwen_here(*arguments, code=code)


def tuwen_here(*arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run a command of `tuwen` in this process. A command that starts Locust must fail before that."""
    from tuwen_cli import main

    stdout, stderr = _output(), _output()
    with _as_a_program(["tuwen", *arguments]), redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            main()
            found = 0
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            found = end.code if isinstance(end.code, int) else int(end.code is not None)
    finished = subprocess.CompletedProcess(["tuwen", *arguments], found, _printed(stdout), _printed(stderr))
    return _checked(finished, code)


def tuwen_process(
    *arguments: str, code: int | None = 0, stdin: str | None = None, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Run the installed script to its end, for tests of the process itself: its script, exit code, pipes and signals.

    Args:
        arguments: the arguments, as a user types them after `tuwen`.
        code: the exit code that the program must have; None accepts every exit code.
        stdin: what the program reads from its standard input.
        settings: further arguments of :func:`subprocess.run`.
    """
    environment = {"COLUMNS": "200", **os.environ}
    finished = subprocess.run(
        [TUWEN, *arguments],
        **{"input": stdin, "capture_output": True, "text": True, "timeout": 300, "env": environment, **settings},
        check=False,
    )
    return _checked(finished, code)


def _checked(finished: subprocess.CompletedProcess[str], code: int | None) -> subprocess.CompletedProcess[str]:
    assert code in (None, finished.returncode), f"exit code {finished.returncode}\n{finished.stdout}{finished.stderr}"
    assert "Traceback" not in finished.stderr, finished.stderr
    return finished


def _output() -> io.TextIOWrapper:
    """Return a stream that is not a terminal. Nothing closes it: loggers that a command creates keep writing to it."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _printed(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode("utf-8")


@contextmanager
def _as_a_program(argv: list[str]) -> Iterator[None]:
    """Give this process the arguments of a script for a while, and put back whatever the script changes."""
    before = sys.argv, sys.stdin, sys.modules["__main__"]
    folder, environment = Path.cwd(), dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    # Click names the program after the main module, which is pytest's here.
    sys.argv, sys.stdin, sys.modules["__main__"] = argv, io.TextIOWrapper(io.BytesIO()), ModuleType("__main__")
    os.environ.setdefault("COLUMNS", "200")
    try:
        yield
    finally:
        sys.argv, sys.stdin, sys.modules["__main__"] = before
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def started(command: Sequence[str | Path], **settings: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run a program beside the test and wait for its end. If the test fails, the program is terminated.

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
    """Wait until a condition is true, which must happen within the time and before the running program ends."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert running is None or running.poll() is None, f"ended before: exit code {running.returncode}"
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
