"""A program in the place of the tritonserver binary, for tests of our supervision. It needs the standard library only.

It takes tritonserver's arguments, writes log lines, and starts child processes that look like the stubs of the Python
backend. Over HTTP it answers ``/v2/health/ready`` and, if the key is right, the calls that unload models. It closes
every connection to the gRPC port, and does not listen on the metrics port. SIGTERM and SIGINT end the program.

The environment variable STAND_IN names a folder. The program reads its ``behaviour.json`` again and again, and appends
a line to its ``events.jsonl`` for each event. `tests.support.stand_in` describes both files.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Any

_FOLDER = os.environ["STAND_IN"]
_LOOP_SECONDS = 0.02
_LONGEST_LIFE_SECONDS = 600  # after this time the program ends itself, in case the tests were killed
# The child holds the writing end of its own pipe, so it reads until a signal ends it.
_STUB = ["-c", "while read -r line; do :; done"]


def record(event: str, **details: Any) -> None:
    """Append an event to ``events.jsonl``."""
    with open(os.path.join(_FOLDER, "events.jsonl"), "a", encoding="utf-8") as file:
        file.write(json.dumps({"event": event, **details}) + "\n")


def starts() -> int:
    """Return how often this program was started before, as ``events.jsonl`` records."""
    try:
        with open(os.path.join(_FOLDER, "events.jsonl"), encoding="utf-8") as file:
            return sum('"event": "started"' in line for line in file)
    except FileNotFoundError:
        return 0


def behaviour(start: int) -> dict[str, Any]:
    """Return the present behaviour: the settings for all starts, overridden by the settings for this start."""
    with open(os.path.join(_FOLDER, "behaviour.json"), encoding="utf-8") as file:
        said: dict[str, Any] = json.load(file)
    of_this_start = said.pop("starts")
    return {**said, **(of_this_start[start] if start < len(of_this_start) else {})}


class Server:
    """One run of the program, from its start to its end."""

    def __init__(self, arguments: list[str], start: int) -> None:
        pairs = [argument.lstrip("-").split("=", 1) for argument in arguments if "=" in argument]
        self._options = {pair[0]: pair[1] for pair in pairs}
        self._prefix = next(pair[1].split("=")[1] for pair in pairs if "shm-region-prefix-name" in pair[1])
        self._start = start
        self._looks = 0
        self._unloaded: set[str] = set()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._signals: list[int] = []

    def run(self) -> int:
        """Start the processes of the models, serve until a signal comes, and return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        now = behaviour(self._start)
        for line in now["log"]:
            print(line, flush=True)
        sys.stdout.write("".join(f"I0000 a line of a flood: {number}\n" for number in range(now["flood"])))
        sys.stdout.flush()
        if now["exit_code"] is not None:
            return int(now["exit_code"])
        for number in range(now["segments"]):
            with open(f"/dev/shm/{self._prefix}{number}", "wb") as file:
                file.write(b"segment")
        for instance in now["stubs"]:
            print(f"I0000 model_lifecycle.cc:469] loading: {instance.rsplit('_', 2)[0]}:1", flush=True)
            self._start_stub(instance)
        listener = socket.create_server((self._options["http-address"], int(self._options["http-port"])))
        listeners = [listener]
        if now["grpc"]:
            listeners.append(socket.create_server((self._options["grpc-address"], int(self._options["grpc-port"]))))
        print("I0000 grpc_server.cc:2558] Started GRPCInferenceService at " + self._options["grpc-port"], flush=True)
        return self._serve(listeners)

    def _note(self, number: int, _: object) -> None:
        self._signals.append(number)

    def _start_stub(self, instance: str) -> None:
        stub = os.path.join(self._options["backend-directory"], "python", "triton_python_backend_stub")
        reader, writer = os.pipe()
        command = [stub, *_STUB, instance]
        self._children[instance] = subprocess.Popen(command, executable="/bin/sh", stdin=reader, pass_fds=[writer])
        os.close(reader)
        os.close(writer)

    def _serve(self, listeners: list[socket.socket]) -> int:
        """Answer HTTP on the first listener; accept and close connections on the second one, which is for gRPC."""
        while True:
            now = behaviour(self._start)
            while self._signals:
                name = signal.Signals(self._signals.pop(0)).name
                record(name)
                if not (name == "SIGTERM" and now["ignores_sigterm"]):
                    for child in self._children.values():
                        child.kill()
                        child.wait()
                    record("ended")
                    return 0
            if now["lose"] in self._children:  # as tritonserver, do not wait for a child that died
                self._children.pop(now["lose"]).kill()
            if now["replace"] in self._children:  # as tritonserver does when a model is loaded again
                old = self._children.pop(now["replace"])
                self._start_stub(now["replace"] + "_anew_0_0")
                old.kill()
                old.wait()
                record("replaced")
            for listener in select.select(listeners, [], [], _LOOP_SECONDS)[0]:
                connection = listener.accept()[0]
                if listener is listeners[0]:
                    self._answer(connection)
                else:
                    connection.close()

    def _answer(self, connection: socket.socket) -> None:
        now = behaviour(self._start)
        with connection:
            connection.settimeout(2)
            try:
                request = connection.recv(65536).decode()
                if now["answers"]:
                    path = request.partition(" ")[2].partition(" ")[0]
                    status, body = "200 OK" if now["ready"] else "400 Bad Request", ""
                    if path.startswith(("/v2/repository/", "/v2/models/")):
                        status, body = self._control(path, request, now["busy_looks"])
                    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                    connection.sendall((head + body).encode())
            except OSError:  # the caller has closed the connection
                pass

    def _control(self, path: str, request: str, busy_looks: int) -> tuple[str, str]:
        """Return the status and the body for a call of model control.

        After an unload, the models stay UNLOADING for `busy_looks` readings of the repository index.
        """
        key = self._options["http-restricted-api"].rpartition("=")[2]
        if f"\r\ntuwen: {key}\r\n" not in request.replace("\r\nTuwen:", "\r\ntuwen:"):
            return "403 Forbidden", ""
        if path == "/v2/models/stats":
            aliases = behaviour(self._start)["aliases"]
            models = [*os.listdir(self._options["model-repository"]), *aliases]
            return "200 OK", json.dumps({"model_stats": [{"name": name, "version": "1"} for name in models]})
        if path.startswith("/v2/models/"):  # the configuration of an alias
            steps = [{"model_name": step, "model_version": "-1"} for step in ("text_tokenization", "text_encoder")]
            name = path.split("/")[3]
            return "200 OK", json.dumps({"name": name, "platform": "ensemble", "ensemble_scheduling": {"step": steps}})
        if path == "/v2/repository/index":
            record("index")
            models = sorted(os.listdir(self._options["model-repository"]))
            self._looks += bool(self._unloaded)
            over = "UNLOADING" if self._looks <= busy_looks else "UNAVAILABLE"
            states = {model: over if model in self._unloaded else "READY" for model in models}
            return "200 OK", json.dumps([{"name": name, "state": state} for name, state in states.items()])
        self._unloaded.add(path.split("/")[4])
        record(f"unload {path.split('/')[4]}")
        return "200 OK", ""


def _end_all(*_: object) -> None:
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, _end_all)
    signal.alarm(_LONGEST_LIFE_SECONDS)
    before = starts()
    record("started", pid=os.getpid(), arguments=sys.argv[1:], time=time.monotonic())
    raise SystemExit(Server(sys.argv[1:], before).run())
