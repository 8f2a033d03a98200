"""After a signal, a command that starts a server leaves no process, port, folder or shared-memory segment behind."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import TUWEN, wait_until
from tuwen_repository.samples import sample
from tuwen_server._local_http import answers

pytestmark = [pytest.mark.alone, pytest.mark.provokes_trouble]

MARK = "TUWEN_TEST_MARK"
SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL)
PHASES = ("starting", "serving", "stopping")
START_SECONDS = 400  # the demo builds a repository first
END_SECONDS = 60  # each test prints how long it took
INTERRUPTED = (0, 130, -signal.SIGINT)  # exit codes; without a handler, the signal ends Python


class Command:
    """A command in its own process. An environment variable marks all its descendants, so that a test finds them.

    Attributes:
        mark: the value of the environment variable.
        temporary: the folder of the command's temporary files.
        process: the process of the command.
    """

    def __init__(self, arguments: list[str], place: Path) -> None:
        self.mark = uuid.uuid4().hex
        self.temporary = place / "temporary"
        self.temporary.mkdir()
        environment = {**os.environ, MARK: self.mark, "TMPDIR": str(self.temporary)}
        self._log = (place / "log").open("wb")
        self.process = subprocess.Popen(
            arguments, cwd=place, env=environment, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL
        )

    def end(self) -> None:
        """Kill the remaining processes, which a failing test may leave."""
        for process in self.processes():
            os.kill(process, signal.SIGKILL)
        self.process.wait()
        self._log.close()

    def processes(self) -> list[int]:
        """Return the IDs of all running processes of the command and its descendants."""
        found = []
        for file in Path("/proc").glob("[0-9]*/environ"):
            try:
                if f"{MARK}={self.mark}".encode() in file.read_bytes():
                    found.append(int(file.parent.name))
            except (PermissionError, FileNotFoundError, ProcessLookupError):
                continue  # another user's process, or one that has just ended
        return found

    def server(self) -> dict[str, str]:
        """Return the options of the running tritonserver by name; empty if no tritonserver runs yet."""
        for process in self.processes():
            try:
                name, *arguments = Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if name.endswith("/tritonserver"):
                return dict(one.removeprefix("--").split("=", 1) for one in arguments if "=" in one)
        return {}

    def left_behind(self, ports: list[int]) -> list[str]:
        """Return the remaining processes, temporary folders, shared-memory segments and used ports of the command."""
        segments = [path.name for path in Path("/dev/shm").glob(f"tuwen-{self.process.pid}-*")]
        folders = [path.name for path in self.temporary.iterdir()]
        self.process.poll()
        return [*map(str, self.processes()), *folders, *segments, *(f"port {port}" for port in ports if taken(port))]


def taken(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def serve(repository: Path, _: Path) -> list[str]:
    return [TUWEN, "serve", str(repository), "--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"]


def tune(repository: Path, _: Path) -> list[str]:
    return [TUWEN, "tune", str(repository), "--seconds", "60"]


def loadtest(repository: Path, _: Path) -> list[str]:
    return [TUWEN, "loadtest", str(repository), "--users", "2", "--seconds", "300"]


def evaluate(repository: Path, place: Path) -> list[str]:
    for label in ("猫", "狗"):
        (place / "classes" / label).mkdir(parents=True)
        picture = shutil.copy(sample("cat.jpg"), place / "classes" / label / "0.jpg")
        for number in range(1, 5_000):  # enough pictures to keep the command busy until the signal
            os.link(picture, place / "classes" / label / f"{number}.jpg")
    return [TUWEN, "evaluate", "zero-shot", str(place / "classes"), "--repository", str(repository)]


def demo(_: Path, __: Path) -> list[str]:
    return [sys.executable, "-m", "tuwen_lab.demo"]


def startup(_: Path, __: Path) -> list[str]:
    return [sys.executable, "-m", "tuwen_loadtest.bench.startup", "tiny", "--precisions", "fp32"]


LONG = tuple(itertools.product((serve, tune, loadtest, evaluate), PHASES))
SHORT = ((demo, "starting"), (startup, "starting"))  # these two stop their servers soon after the start


@pytest.fixture
def copied(repository: Path, tmp_path: Path) -> Path:
    """Return a copy of the repository, alone in its folder. The commands must not add files to this folder."""
    return Path(shutil.copytree(repository, tmp_path / "repositories" / "repository"))


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize(("make", "phase"), [*LONG, *SHORT], ids=lambda part: getattr(part, "__name__", part))
def test_nothing_is_left_behind_after_a_signal(
    copied: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path, Path], list[str]],
    phase: str,
    number: signal.Signals,
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    command = Command(make(copied, place), place)
    try:
        wait_until(command.server, seconds=START_SECONDS, running=command.process)
        options = command.server()
        ports = [int(options[f"{protocol}-port"]) for protocol in ("http", "grpc", "metrics")]
        health = f"http://127.0.0.1:{ports[0]}/v2/health/ready"
        if phase != "starting":
            wait_until(lambda: answers(health), seconds=START_SECONDS, running=command.process)
        if phase == "stopping":
            command.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not answers(health))
        start = time.monotonic()
        command.process.send_signal(number)
        wait_until(lambda: not command.left_behind(ports), seconds=END_SECONDS)
        with capsys.disabled():  # prints a row of a results table
            print(f"| {make.__name__} | {phase} | {number.name} | {time.monotonic() - start:.1f} s |")
        assert command.process.wait() in ((-signal.SIGKILL,) if number == signal.SIGKILL else INTERRUPTED)
        assert [path.name for path in copied.parent.iterdir()] == ["repository"]
    finally:
        command.end()
