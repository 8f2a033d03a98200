"""Commands in the test's process: they behave as the installed script does, and the process is restored afterwards."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.command import tuwen, tuwen_process
from tuwen import TuwenError


@pytest.mark.parametrize(("arguments", "code"), [(("--help",), 0), (("embed",), 2), (("nothing",), 2)])
def test_prints_what_the_installed_script_prints(arguments: tuple[str, ...], code: int) -> None:
    here, there = tuwen(*arguments, code=code), tuwen_process(*arguments, code=code)
    assert (here.stdout, here.stderr, here.returncode) == (there.stdout, there.stderr, there.returncode)


def replace_status(monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> None:
    """Let `tuwen status` change the state of the process and print a line, and then raise an error if one is given."""

    def connect(*_: object, **__: object) -> None:
        os.chdir("/")
        os.environ["TUWEN_CHANGED"] = "yes"
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(f"{Path(sys.argv[0]).name} as wide as {os.environ['COLUMNS']}", file=sys.stderr)
        if error is not None:
            raise error

    monkeypatch.setattr("tuwen_cli.status.connect", connect)


def state() -> tuple[object, ...]:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    return Path.cwd(), dict(os.environ), handlers, sys.argv, sys.stdout, sys.stderr, sys.modules["__main__"]


def test_restores_the_state_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    replace_status(monkeypatch, TuwenError("broken"))
    before = state()
    assert tuwen("status", code=1).stderr == "tuwen as wide as 200\ntuwen: broken\n"
    assert state() == before


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (SystemExit(3), 3), (SystemExit(None), 0), (SystemExit("why"), 1)]
)
def test_an_exception_that_ends_the_program_becomes_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    replace_status(monkeypatch, error)
    assert tuwen("status", code=None).returncode == code


def test_an_unexpected_error_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_status(monkeypatch, LookupError("a defect"))
    before = state()
    with pytest.raises(LookupError, match="a defect"):
        tuwen("status")
    assert state() == before


def test_another_exit_code_than_expected_fails_the_test() -> None:
    with pytest.raises(AssertionError, match=r"exit code 2\n"):
        tuwen("embed")
