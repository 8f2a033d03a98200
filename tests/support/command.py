"""Runs of the command line `tuwen`, in the test's process or in a process of its own, and of other programs."""

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
"""The path of the installed script."""


def tuwen(*arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, as the installed script would, and return its output.

    An exception that the command line does not turn into an exit code fails the test with its traceback. Afterwards,
    the current directory, the environment and the signal handlers are restored. The output is 200 columns wide, or as
    wide as COLUMNS says.

    Args:
        arguments: the arguments, as a user types them after `tuwen`.
        code: the exit code that the command must have; None accepts every exit code.
    """
    if arguments[:1] == ("loadtest",):  # Locust patches the standard library of its whole process
        return tuwen_process(*arguments, code=code)
    return tuwen_here(*arguments, code=code)


def tuwen_here(*arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run a command of `tuwen` in this process, and return its output. The command must not import Locust.

    Locust would patch the standard library of the test's process.
    """
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
    """Run the installed script to its end, for tests of its exit code, pipes and signals.

    Args:
        arguments: the arguments, as a user types them after `tuwen`.
        code: the exit code that the program must have; None accepts every exit code.
        stdin: the text of the program's standard input; None: the standard input of the test.
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
    """Return a stream that is not a terminal. It stays open, because the loggers of a command keep writing to it."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _printed(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode("utf-8")


@contextmanager
def _as_a_program(argv: list[str]) -> Iterator[None]:
    """Run the block with a script's arguments, and restore what the script changes in this process."""
    before = sys.argv, sys.stdin, sys.modules["__main__"]
    folder, environment = Path.cwd(), dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    # Click takes the program's name from the main module, which belongs to pytest here.
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
    """Run a program during the block, and wait for its end. If the block fails, the program is terminated.

    Args:
        command: the program and its arguments.
        settings: further arguments of :class:`subprocess.Popen`.
    """
    with subprocess.Popen(command, **settings) as process:
        try:
            yield process
        except BaseException:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:  # a full pipe may block the program
                process.kill()
            raise


def wait_until(
    condition: Callable[[], object], *, seconds: float = 60, running: subprocess.Popen[Any] | None = None
) -> None:
    """Wait until a condition is true. Fail if it stays false for too long, or if a program ends first.

    Args:
        condition: a function whose result is true when the wait is over.
        seconds: the longest wait, in seconds.
        running: the program that must not end first; None: the wait depends on no program.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert running is None or running.poll() is None, f"the program ended first, with code {running.returncode}"
        assert time.monotonic() < deadline, f"the condition was not true within {seconds} s"
        time.sleep(0.05)
