"""The CPU priority of the embedded server's `pytorch` backend: lower for loading and for bulk requests."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import tuwen_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness for each thread")
BACKEND = Path(tuwen_server.__file__).parent / "backends" / "pytorch"


class Request:
    """A fake request with parameters in JSON."""

    def __init__(self, parameters: str) -> None:
        self._parameters = parameters

    def parameters(self) -> str:
        return self._parameters


@pytest.fixture(scope="module")
def backend() -> Iterator[tuple[ModuleType, ModuleType]]:
    """The modules `cpu_priority` and `backlog` of the backend, imported from the backend's folder as in Triton."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BACKEND)
        import backlog
        import cpu_priority

        yield cpu_priority, backlog
        del sys.modules["backlog"], sys.modules["cpu_priority"]


@pytest.fixture
def cpu_priority(backend: tuple[ModuleType, ModuleType]) -> ModuleType:
    return backend[0]


@pytest.fixture
def other_thread() -> Iterator[int]:
    """Run a second thread, like a thread of an OpenMP team, and yield its native id."""
    started, end = threading.Event(), threading.Event()
    numbers: list[int] = []

    def wait() -> None:
        numbers.append(threading.get_native_id())
        started.set()
        end.wait(60)

    thread = threading.Thread(target=wait)
    thread.start()
    assert started.wait(60)
    yield numbers[0]
    end.set()
    thread.join()


def niceness(thread: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, thread)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [("", False), ("{}", False), ('{"sent_at": 5}', False), ('{"bulk": false}', False), ('{"bulk": true}', True)],
)
def test_only_a_request_with_the_parameter_bulk_is_bulk(
    backend: tuple[ModuleType, ModuleType], parameters: str, expected: bool
) -> None:
    assert backend[1].is_bulk(Request(parameters)) is expected


def test_all_threads_have_a_lower_priority_during_bulk_requests_and_the_usual_priority_afterwards(
    cpu_priority: ModuleType, other_thread: int
) -> None:
    priority = cpu_priority.CpuPriority(torch.device("cpu"))
    if not priority.can_change:
        pytest.skip("this user may not raise a priority")
    usual = niceness(os.getpid())
    with priority.lowered():
        assert min(niceness(os.getpid()), niceness(other_thread)) > usual or usual == 19
    assert (niceness(os.getpid()), niceness(other_thread)) == (usual, usual)


def test_the_usual_priority_returns_after_a_failure(cpu_priority: ModuleType) -> None:
    priority = cpu_priority.CpuPriority(torch.device("cpu"))
    usual = niceness(os.getpid())
    with pytest.raises(ValueError, match="of the model"), priority.lowered():
        raise ValueError("an error of the model")
    assert niceness(os.getpid()) == usual


def test_the_priority_stays_where_it_could_not_be_raised_again(
    cpu_priority: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[int] = []
    usual = niceness(os.getpid())

    def set_priority(_which: int, _who: int, value: int) -> None:
        if value <= usual:
            raise PermissionError(13, "Permission denied")
        changes.append(value)

    monkeypatch.setattr(cpu_priority.os, "setpriority", set_priority)
    priority = cpu_priority.CpuPriority(torch.device("cpu"))
    changes.clear()
    with priority.lowered():
        pass
    assert not priority.can_change
    assert not changes


def test_the_priority_stays_on_a_gpu(cpu_priority: ModuleType) -> None:
    assert not cpu_priority.CpuPriority(torch.device("cuda")).can_change


def own_niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_function_and_the_threads_that_it_starts_have_low_priority(cpu_priority: ModuleType) -> None:
    found: list[int] = []

    def work() -> int:
        thread = threading.Thread(target=lambda: found.append(own_niceness()))
        thread.start()
        thread.join()
        return own_niceness()

    own = own_niceness()
    lowered = cpu_priority.in_background(work)
    assert found == [lowered]
    assert lowered == min(own + 10, 19)
    assert own_niceness() == own


def test_arguments_results_and_errors_are_passed_on(cpu_priority: ModuleType) -> None:
    assert cpu_priority.in_background(int, "11", base=2) == 3
    with pytest.raises(ValueError, match="invalid literal"):
        cpu_priority.in_background(int, "a")


def test_a_function_runs_where_a_sandbox_forbids_a_lower_priority(
    cpu_priority: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "nice", refuse)
    assert cpu_priority.in_background(own_niceness) == own_niceness()
