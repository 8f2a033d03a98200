"""The CPU priority of the embedded server's `pytorch` backend during bulk requests."""

from __future__ import annotations

import importlib.util
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
MODULE = Path(tuwen_server.__file__).parent / "backends" / "pytorch" / "bulk.py"


class Request:
    """A fake request with parameters in JSON."""

    def __init__(self, parameters: str) -> None:
        self._parameters = parameters

    def parameters(self) -> str:
        return self._parameters


@pytest.fixture(scope="module")
def bulk() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bulk_of_the_backend", MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
def test_only_a_request_with_the_parameter_bulk_is_bulk(bulk: ModuleType, parameters: str, expected: bool) -> None:
    assert bulk.is_bulk(Request(parameters)) is expected


def test_all_threads_have_a_lower_priority_during_bulk_requests_and_the_usual_priority_afterwards(
    bulk: ModuleType, other_thread: int
) -> None:
    priority = bulk.CpuPriority(torch.device("cpu"))
    if not priority.can_change:
        pytest.skip("this user may not raise a priority")
    usual = niceness(os.getpid())
    with priority.lowered():
        assert min(niceness(os.getpid()), niceness(other_thread)) > usual or usual == 19
    assert (niceness(os.getpid()), niceness(other_thread)) == (usual, usual)


def test_the_usual_priority_returns_after_a_failure(bulk: ModuleType) -> None:
    priority = bulk.CpuPriority(torch.device("cpu"))
    usual = niceness(os.getpid())
    with pytest.raises(ValueError, match="of the model"), priority.lowered():
        raise ValueError("an error of the model")
    assert niceness(os.getpid()) == usual


def test_the_priority_stays_where_it_could_not_be_raised_again(
    bulk: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[int] = []
    usual = niceness(os.getpid())

    def set_priority(_which: int, _who: int, value: int) -> None:
        if value <= usual:
            raise PermissionError(13, "Permission denied")
        changes.append(value)

    monkeypatch.setattr(bulk.os, "setpriority", set_priority)
    priority = bulk.CpuPriority(torch.device("cpu"))
    changes.clear()
    with priority.lowered():
        pass
    assert not priority.can_change
    assert not changes


def test_the_priority_stays_on_a_gpu(bulk: ModuleType) -> None:
    assert not bulk.CpuPriority(torch.device("cuda")).can_change
