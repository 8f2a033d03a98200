"""Substitutes that tests of our supervision use: a program in place of tritonserver, a repository, and a clock."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuwen_build.export.configs import templates
from tuwen_repository.checksums import file_hashes
from tuwen_repository.deviation import Deviation
from tuwen_repository.manifest import Manifest
from tuwen_server._installation import Installation

__all__ = ["HurriedClock", "StandIn", "group_members", "segments", "write_repository"]

_PROGRAM = Path(__file__).with_name("stand_in_server.py")
_DEFAULTS: dict[str, Any] = {
    "aliases": [],
    "grpc": True,
    "answers": True,
    "busy_looks": 0,
    "exit_code": None,
    "flood": 0,
    "ignores_sigterm": False,
    "log": [],
    "lose": None,
    "ready": True,
    "replace": None,
    "segments": 0,
    "starts": [],
    "stubs": ["text_tokenization_0_0", "text_encoder_0_0"],
}


class StandIn:
    """The installation of a program that `find_runtime` takes for the embedded tritonserver.

    Args:
        installation: the folders in which the program is installed.
        folder: a new folder, in which the program finds its behaviour and records its events.
    """

    def __init__(self, installation: Installation, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.installation = installation
        wheel = installation.tritonserver
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        for name in ("bin", "backends/python", f"python_backend_stubs/{version}"):
            (wheel / name).mkdir(parents=True)
        installation.libraries.mkdir()
        (installation.packages / "numpy").mkdir(parents=True)
        (wheel / "python_backend_stubs" / version / "triton_python_backend_stub").touch()
        binary = wheel / "bin" / "tritonserver"
        program = f"'{sys.executable}' -I -S '{_PROGRAM}'"
        binary.write_text(f"#!/bin/sh\nSTAND_IN='{folder}' exec {program} \"$@\"\n", encoding="utf-8")
        binary.chmod(0o755)
        self.behave()

    def behave(self, **behaviour: Any) -> None:
        """Set the behaviour of the server from now on. Settings that are left out have their defaults.

        Args:
            behaviour: any of these settings.
                aliases: the names of loaded ensembles that no repository holds.
                answers: False: the server closes each HTTP connection without a response.
                busy_looks: how many readings of the repository index show an unloaded ensemble as still busy.
                exit_code: the code with which the server ends before it loads a model; None: the server serves.
                grpc: False: the server does not listen on its gRPC port, so that a test can listen there.
                flood: the number of lines that the server writes to its log at the start.
                ignores_sigterm: True: SIGTERM does not end the server.
                log: the lines that the server writes to its log at the start.
                lose: the instance whose process the server kills.
                replace: the instance that the server loads again. Its new process is called INSTANCE_anew_0_0.
                ready: False: the server reports that it is not ready.
                segments: the number of shared-memory segments that the server makes and does not remove.
                starts: a list of behaviours for the first start, the second start, and so on.
                stubs: the instances for which the server starts processes.
        """
        unknown = behaviour.keys() - _DEFAULTS.keys()
        assert not unknown, unknown
        place = self.folder / "behaviour.json"
        place.with_suffix(".new").write_text(json.dumps({**_DEFAULTS, **behaviour}), encoding="utf-8")
        place.with_suffix(".new").rename(place)

    def events(self) -> list[str]:
        """Return the events so far, in order: ``started``, names of signals such as ``SIGTERM``, ``ended``."""
        return [event for event in self.timeline() if event != "index" and not event.startswith("unload ")]

    def timeline(self) -> list[str]:
        """Return the events and the calls of model control, ``unload MODEL`` and ``index``, in order."""
        return [line["event"] for line in self._lines()]

    def starts(self) -> list[list[str]]:
        """Return the command-line arguments of each start."""
        return [line["arguments"] for line in self._lines() if line["event"] == "started"]

    def pids(self) -> list[int]:
        """Return the process ID of each start, which is also the ID of the process group."""
        return [line["pid"] for line in self._lines() if line["event"] == "started"]

    def _lines(self) -> list[dict[str, Any]]:
        file = self.folder / "events.jsonl"
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


class HurriedClock:
    """A clock that runs fast: it advances by the full length of a pause, but the pause takes at most 5 ms.

    A timeout of 10 s with a pause of 0.1 s between two polls is therefore over after half a second. Other processes
    still get time to run between two polls.

    Attributes:
        time: the current time of the clock, in seconds.
        pauses: the length of every pause so far, in seconds and in order.
        on_pause: a function that is called at each pause; None: no function is called.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self.pauses: list[float] = []
        self.on_pause: Callable[[], object] | None = None

    def now(self) -> float:
        """Return the current time of the clock: the sum of all pauses, in seconds."""
        return self.time

    def pause(self, seconds: float) -> None:
        """Advance the clock by the length of the pause, and wait for at most 5 ms."""
        self.pauses.append(seconds)
        self.time += seconds
        if self.on_pause:
            self.on_pause()
        time.sleep(min(seconds, 0.005))


def write_repository(folder: Path) -> Path:
    """Write a repository that passes every check before the start of a server.

    The configurations are real. The model files hold no models, because no server loads them.
    """
    for config in templates().glob("*/config.pbtxt"):
        (folder / config.parent.name / "1").mkdir(parents=True)
        (folder / config.parent.name / "config.pbtxt").write_bytes(config.read_bytes())
    (folder / "vision_encoder" / "1" / "model.pt").write_bytes(b"weights" * 100)
    (folder / "text_tokenization" / "1" / "vocab.txt").write_text("[CLS]\n", encoding="utf-8")
    files = file_hashes(folder)
    none = Deviation(max_abs=0.0, distance=0.0, min_cosine=1.0, compared=1)
    Manifest(
        **{"family": "chinese-clip", "checkpoint": "none", "fingerprint": "0" * 64, "precision": "float32"},
        **{"max_batch_size": 32, "embedding_dimension": 64, "image_size": 32, "resize": "bicubic"},
        **{"image_rules": "reference", "jpeg_decoding": "exact", "context_length": 52, "logit_scale": 1.0},
        **{"text_rules": "reference", "image_deviation": none, "text_deviation": none, "versions": {}, "sources": {}},
        files=files,
    ).write(folder)
    return folder


def segments(arguments: list[str]) -> list[str]:
    """Return the names of the shared-memory segments of the server that was started with these arguments."""
    [prefix] = [one.rpartition("=")[2] for one in arguments if "shm-region-prefix-name" in one]
    assert prefix.startswith("tuwen-")
    return [path.name for path in Path("/dev/shm").glob(f"{prefix}*")]


def group_members(leader: int) -> list[int]:
    """Return the IDs of the living processes of a process group."""
    members = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # the process has ended meanwhile
        if int(fields[2]) == leader and fields[0] != "Z":
            members.append(int(status.parent.name))
    return members
