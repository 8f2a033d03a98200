"""Stand-ins for tests of the supervision: a program in place of tritonserver, a repository for it, and a clock."""

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
    """An installation of the stand-in, which `find_runtime` accepts as the embedded server.

    Args:
        installation: where to install the stand-in.
        folder: where the stand-in keeps its behaviour and its events.
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
        """Say how the server behaves from now on; what is not named is as by default.

        Args:
            behaviour: any of
                aliases: loaded ensembles that are in no repository.
                answers: False: it closes each HTTP connection without an answer.
                busy_looks: how many looks at the repository index show an ensemble that still has requests.
                exit_code: end with this code before anything is loaded.
                grpc: False: it does not listen on its gRPC port, so that a test can.
                flood: the number of lines it writes to its log first.
                ignores_sigterm: SIGTERM does not end it.
                log: lines that it writes to its log first.
                lose: the instance whose process it kills.
                replace: the instance of a model that it loads anew; its new process is called INSTANCE_anew_0_0.
                ready: False: it says that it is not ready.
                segments: the number of shared-memory segments that it makes and leaves.
                starts: a list of such behaviours, for the first start, the second start, and so on.
                stubs: the instances for which it starts processes.
        """
        unknown = behaviour.keys() - _DEFAULTS.keys()
        assert not unknown, unknown
        place = self.folder / "behaviour.json"
        place.with_suffix(".new").write_text(json.dumps({**_DEFAULTS, **behaviour}), encoding="utf-8")
        place.with_suffix(".new").rename(place)

    def events(self) -> list[str]:
        """Return what has happened, in order: ``started``, the names of signals, ``ended``."""
        return [event for event in self.timeline() if event != "index" and not event.startswith("unload ")]

    def timeline(self) -> list[str]:
        """Return the events with the calls of model control among them: ``unload MODEL`` and ``index``."""
        return [line["event"] for line in self._lines()]

    def starts(self) -> list[list[str]]:
        """Return the arguments of each start."""
        return [line["arguments"] for line in self._lines() if line["event"] == "started"]

    def pids(self) -> list[int]:
        """Return the process id of each start, which is the id of its process group."""
        return [line["pid"] for line in self._lines() if line["event"] == "started"]

    def _lines(self) -> list[dict[str, Any]]:
        file = self.folder / "events.jsonl"
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


class HurriedClock:
    """A clock that runs fast: `pause` lets all of its time pass, but waits for at most 5 ms.

    A timeout of 10 s that is polled every 0.1 s is thus over after half a second, while another process still gets
    the time to do its part between two looks at it.

    Attributes:
        time: what the clock shows, in seconds.
        pauses: the length of every pause, in order.
        on_pause: called at each pause, if given.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self.pauses: list[float] = []
        self.on_pause: Callable[[], object] | None = None

    def now(self) -> float:
        """Return the time that all pauses make together."""
        return self.time

    def pause(self, seconds: float) -> None:
        """Let the time pass."""
        self.pauses.append(seconds)
        self.time += seconds
        if self.on_pause:
            self.on_pause()
        time.sleep(min(seconds, 0.005))


def write_repository(folder: Path) -> Path:
    """Write a repository that passes every check before a start: real configs, and files that only look like models."""
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
    """Return the living processes of a process group."""
    members = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        if int(fields[2]) == leader and fields[0] != "Z":
            members.append(int(status.parent.name))
    return members
