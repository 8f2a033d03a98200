"""Checking whether a running tritonserver is healthy.

Triton 2.51 still reports ready after the Python process of a model has died, and fails every request (fixed by core
#473, in 26.04). So the processes are checked.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

from tuwen import clock as system_clock
from tuwen.clock import Clock
from tuwen_server._local_http import answers

__all__ = ["Watch", "accepts"]

_PROC = Path("/proc")
_STUB = "triton_python_backend_stub"
_INSTANCE = re.compile(rb"(?:^|\0)(\w+?)_\d+_\d+\0")
_OVER = ("", "Z", "X")  # the states of a process that has ended
_STOPPED = ("T", "t")  # the states of a process that a signal or a debugger stopped
_UNLOADING_SECONDS = 1.0  # between the end of a model's process and the moment when tritonserver waits for it
_POLL_SECONDS = 5.0  # between two questions over HTTP


class Watch:
    """The health checks of one server, from the moment that it became ready.

    Args:
        pid: the process id of tritonserver.
        url: the address of its HTTP API.
        silence: seconds without an answer after which the server counts as failed.
        clock: measures the silence. Tests replace it.
    """

    def __init__(self, pid: int, url: str, silence: float, clock: Clock | None = None) -> None:
        self._clock = clock or system_clock
        self._ready = f"{url}/v2/health/ready"
        self._silence = silence
        self._pid = pid
        self._models: dict[int, str] = {}
        self._ended: dict[int, float] = {}  # when each process was first seen as a zombie
        self._stopped: dict[int, float] = {}  # when each process was first seen as stopped
        self._answered = self._asked = self._clock.now()
        self._look_for_models()

    def trouble(self) -> str | None:
        """Return the permanent fault of the server; None if it is healthy."""
        now = self._clock.now()
        if (model := self._dead_model(now)) is not None:
            return f"the Python process of {model} died"
        if (model := self._stopped_model(now)) is not None:
            return f"the Python process of {model} has been stopped for {self._silence:.0f} seconds"
        if now - self._asked >= _POLL_SECONDS:
            self._asked = now
            self._look_for_models()  # somebody may have loaded a model meanwhile
            if answers(self._ready):
                self._answered = now
            elif now - self._answered >= self._silence:
                return f"tritonserver has not answered for {now - self._answered:.0f} seconds"
        return None

    def _stopped_model(self, now: float) -> str | None:
        """Return the model whose process has been stopped for longer than the silence; None: no process has.

        tritonserver still calls itself ready, and every request to the model waits until its deadline.
        """
        for stub, model in self._models.items():
            if _state(stub) not in _STOPPED:
                self._stopped.pop(stub, None)
            elif now - self._stopped.setdefault(stub, now) >= self._silence:
                return model
        return None

    def _look_for_models(self) -> None:
        for stub in _children(self._pid):
            if stub not in self._models and _state(stub) not in _OVER:
                self._models[stub] = _model(stub)

    def _dead_model(self, now: float) -> str | None:
        """Return the model whose process died; None: no process did.

        tritonserver waits for the process of a model that it unloads. It never waits for a process that died, which
        stays a zombie.
        """
        for stub, model in list(self._models.items()):
            state = _state(stub)
            if not state:
                del self._models[stub]
                self._ended.pop(stub, None)
            elif state in _OVER and now - self._ended.setdefault(stub, now) >= _UNLOADING_SECONDS:
                return model
        return None


def accepts(address: str, timeout: float = 2.0) -> bool:
    """Return whether a server accepts connections at ``host:port`` before the timeout, in seconds."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout):
            return True
    except OSError:
        return False


def _children(parent: int) -> list[int]:
    """Return the Python processes that a tritonserver has started."""
    found = []
    for folder in _PROC.glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            command = (folder / "cmdline").read_bytes().split(b"\0")[0]
        except OSError:  # it has ended in the meantime
            continue
        # The name in brackets may hold any character. After it come the state and the parent.
        if int(status.rpartition(")")[2].split()[1]) == parent and command.endswith(_STUB.encode()):
            found.append(int(folder.name))
    return found


def _state(pid: int) -> str:
    """Return the letter of a process's state, `Z` for a zombie; empty if there is no such process."""
    try:
        status = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return status.rpartition(")")[2].split()[0]


def _model(stub: int) -> str:
    """Return the model of a process, from the instance among its arguments, such as ``text_encoder_0_0``."""
    try:
        found = _INSTANCE.search((_PROC / str(stub) / "cmdline").read_bytes())
    except OSError:  # it has just died, which `trouble` will report
        found = None
    return found[1].decode() if found else "a model"
