"""Loading with low priority: a function runs in a thread of low priority, and the calling thread keeps its priority."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

import tuwen_server

FOLDER = Path(tuwen_server.__file__).parent / "backends" / "pytorch"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the niceness belongs to a thread on Linux alone")


@pytest.fixture
def background(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import background

    return background


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_function_and_the_threads_that_it_starts_have_low_priority(background: ModuleType) -> None:
    found: list[int] = []

    def work() -> int:
        thread = threading.Thread(target=lambda: found.append(niceness()))
        thread.start()
        thread.join()
        return niceness()

    own = niceness()
    lowered = background.in_background(work)
    assert found == [lowered]
    assert lowered == min(own + 10, 19)
    assert niceness() == own


def test_arguments_results_and_errors_are_passed_on(background: ModuleType) -> None:
    assert background.in_background(int, "11", base=2) == 3
    with pytest.raises(ValueError, match="invalid literal"):
        background.in_background(int, "a")


def test_a_function_runs_where_a_sandbox_forbids_a_lower_priority(
    background: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "nice", refuse)
    assert background.in_background(niceness) == niceness()
