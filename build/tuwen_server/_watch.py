"""Checking whether a running tritonserver is healthy.

Triton 2.51 still reports ready after the Python process of a model has died, and fails every request (fixed by core
#473, in 26.04). So the processes are checked.
"""

from __future__ import annotations

import re
import socket

import psutil

from tuwen import clock as system_clock
from tuwen.clock import Clock
from tuwen_server._local_http import answers

__all__ = ["Watch", "accepts"]

_STUB = "triton_python_backend_stub"
_INSTANCE = re.compile(r"([\w-]+?)_\d+_\d+")
_ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)  # states of a dead process that tritonserver has not waited for
_STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)  # stopped by a signal or by a debugger
_UNLOADING_SECONDS = 1.0  # between the end of a model's process and the moment when tritonserver waits for it
_POLL_SECONDS = 5.0  # between two health checks over HTTP


class Watch:
    """The health checks of one server, from the moment that it became ready.

    Args:
        pid: the process id of tritonserver.
        url: the address of the server's HTTP API.
        silence: the number of seconds without an answer after which the server counts as failed.
        clock: the clock that measures the silence. Tests replace it.
    """

    def __init__(self, pid: int, url: str, silence: float, clock: Clock | None = None) -> None:
        self._clock = clock or system_clock
        self._ready = f"{url}/v2/health/ready"
        self._silence = silence
        self._server = psutil.Process(pid)
        self._models: dict[psutil.Process, str] = {}
        self._ended: dict[psutil.Process, float] = {}  # when each process was first seen as a zombie
        self._stopped: dict[psutil.Process, float] = {}  # when each process was first seen as stopped
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

        tritonserver still reports that it is ready, and every request to the model waits until its deadline.
        """
        for stub, model in self._models.items():
            if _state(stub) not in _STOPPED:
                self._stopped.pop(stub, None)
            elif now - self._stopped.setdefault(stub, now) >= self._silence:
                return model
        return None

    def _look_for_models(self) -> None:
        try:
            for stub in self._server.children():
                if stub not in self._models and (model := _model(stub)) is not None:
                    self._models[stub] = model
        except psutil.NoSuchProcess:  # the server has ended, which its owner notices
            return

    def _dead_model(self, now: float) -> str | None:
        """Return the model whose process died; None: no process did.

        tritonserver waits for the process of a model that it unloads. It never waits for a process that died, which
        stays a zombie.
        """
        for stub, model in list(self._models.items()):
            state = _state(stub)
            if state is None:
                del self._models[stub]
                self._ended.pop(stub, None)
            elif state in _ENDED and now - self._ended.setdefault(stub, now) >= _UNLOADING_SECONDS:
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


def _state(process: psutil.Process) -> str | None:
    """Return the status of a process as psutil names it; None: there is no such process."""
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return None


def _model(process: psutil.Process) -> str | None:
    """Return the model that a process runs, from the instance among its arguments, such as ``text_encoder_0_0``.

    None: the process runs no Python model, or has ended.
    """
    try:
        program, *arguments = process.cmdline() or [""]
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return None
    if not program.endswith(_STUB):
        return None
    found = [instance[1] for argument in arguments if (instance := _INSTANCE.fullmatch(argument))]
    return found[0] if found else "a model"
