"""Attacks that break a server, its machine or its network while two streams run. No item may be lost or repeated."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.faults._endless import Endless
from tests.faults._outcome import Outcome
from tests.faults._server import Served, may_mount
from tests.faults._wire import Wire
from tuwen import Client, OverloadedError
from tuwen_server.traffic import photographs

__all__ = ["BREAKDOWNS", "attack_by_replacing", "attack_from_beneath"]

Breakdown = Callable[[Served, Wire], None]
_PATIENCE = 150.0
"""The most seconds until results arrive again.

The bound is below the 180 seconds of a request's timeout, so that a timeout cannot hide a breakdown. Two breakdowns are
noticed late: a server that hangs (after 60 seconds), and a connection that drops all data (after 40 seconds, when a
ping has failed).
"""
_PAUSE = 1.0  # seconds in which a repaired part settles


def _kill(model: str) -> Breakdown:
    return lambda served, _: served.stub(model).kill()


def _freeze(served: Served, _: Wire) -> None:
    served.freeze()
    time.sleep(5)
    served.thaw()


def _start_again(served: Served, _: Wire) -> None:
    served.stop()
    served.start()


def _full_disk(served: Served, _: Wire) -> None:
    with served.full_disk():
        served.tritonserver().kill()
        time.sleep(5)


def _full_memory(served: Served, _: Wire) -> None:
    """Fill the shared memory, and send batches of large pictures, which need more than the free shared memory."""
    pictures = photographs(32, size=(2500, 2500))
    with served.full_shared_memory(), Client(served.url, timeout=20) as clip:
        for _attempt in range(2):
            try:
                clip.embed_images(pictures)
            except OverloadedError as error:
                assert "shared memory" in str(error)
        time.sleep(2)


def _full_memory_at_start(served: Served, _: Wire) -> None:
    with served.full_shared_memory():
        served.tritonserver().kill()
        time.sleep(5)


_NEEDS_MOUNTS = {
    "the disk of logs and temporary files full for 5 s, and tritonserver killed": _full_disk,
    "/dev/shm full, and large batches": _full_memory,
    "/dev/shm full for 5 s, and tritonserver killed": _full_memory_at_start,
}
BREAKDOWNS: Mapping[str, Breakdown] = {
    **{
        f"the process of {model} killed": _kill(model)
        for model in ("image_preprocessing", "text_tokenization", "vision_encoder", "text_encoder")
    },
    "tritonserver killed": lambda served, _: served.tritonserver().kill(),
    "tritonserver frozen for 5 s": _freeze,
    "tritonserver frozen for ever": lambda served, _: served.freeze(),
    "the service stopped and started again": _start_again,
    "every connection reset for 5 s": lambda _, wire: wire.down(5),
    "a network that delivers no data for 8 s": lambda _, wire: wire.silent(8),
    "a network of 64 KiB a second for 8 s": lambda _, wire: wire.slow(1 << 16, 8),
    "connections that drop all data for ever": lambda _, wire: wire.forget(),
    **_NEEDS_MOUNTS,
}
"""Functions that cause a breakdown, by its name. A function also repairs the damage that does not end by itself."""


def attack_from_beneath(
    repository: Path,
    *,
    times: int,
    breakdowns: Mapping[str, Breakdown] = BREAKDOWNS,
    say: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Cause each breakdown while two streams run, and return a row for each breakdown.

    Args:
        repository: the folder of the model repository to serve.
        times: the number of times that each breakdown is caused.
        breakdowns: the breakdowns to cause; all of them by default.
        say: a function that is called with each line of progress; by default, no progress is reported.
    """
    own_mounts = may_mount()
    outcomes = []
    with Served(repository, own_mounts=own_mounts) as served, Wire(served.url) as wire:
        for tried, happen in breakdowns.items():
            if tried in _NEEDS_MOUNTS and not own_mounts:
                outcomes.append(Outcome(tried, 0, "skipped: a private /dev/shm needs the right to mount"))
                continue
            with Endless(wire.url) as streams:
                outages = []
                for _ in range(times):
                    assert streams.flows(_PATIENCE), streams.wrong or served.said()
                    time.sleep(_PAUSE)
                    streams.calm()
                    happen(served, wire)
                    if not streams.flows(_PATIENCE):
                        streams.wrong.append(f"no answers after {_PATIENCE:.0f} s: {served.said()}")
                    outages.append(streams.outage())
            longest = f"answers again after {max(outages):.1f} s"
            items = f"{streams.answered:,} items, each once and correct"
            outcomes.append(Outcome(tried, times, f"{longest}; {items}", streams.wrong))
            say(f"{tried}: {max(outages):.1f} s")
    return outcomes


def attack_by_replacing(
    repository: Path, other: Path, folder: Path, *, say: Callable[[str], None] = lambda _: None
) -> list[Outcome]:
    """Replace a served repository with the repository of another model. No answer may mix both models.

    Args:
        repository: the repository whose copy is served.
        other: the repository that replaces the copy.
        folder: an existing folder, in which the copy is made.
        say: a function that is called with each line of progress; by default, no progress is reported.
    """

    def copied_over(served: Path) -> None:
        shutil.copytree(other, served, dirs_exist_ok=True)

    def cut_off(served: Path) -> None:
        for weights in served.rglob("model.pt"):
            with weights.open("r+b") as file:
                file.truncate(100)

    def exchanged(served: Path) -> None:
        served.rename(served.with_name("before"))
        shutil.copytree(other, served)

    path, wrong = folder / "served", list[str]()
    shutil.copytree(repository, path)
    with Served(path, own_mounts=False) as served:
        with Endless(served.url) as streams:
            for replace in (copied_over, cut_off, exchanged):
                replace(path)
                if not streams.flows(_PATIENCE):
                    wrong.append(f"{replace.__name__}: no answers")
            count = streams.answered
            wrong += streams.wrong
            served.tritonserver().kill()
            while not streams.wrong:
                time.sleep(0.1)
        ends = [said for said in streams.wrong if not said.startswith("a stream ended: EmbeddingSpaceError: ")]
        wrong += [said for said in ends if "were sent" not in said]  # a stream that ended lacks its last results
        with Client(served.url) as clip:
            fingerprint = clip.model_card().fingerprint
    say("a served repository replaced")
    files = f"{count:,} answers of the old model, each once and correct"
    after = f"the new model ({fingerprint[:8]}) is served; streams of the old model end with EmbeddingSpaceError"
    return [
        Outcome("files of a served repository overwritten, truncated, exchanged", 3, files, wrong),
        Outcome("files exchanged, and tritonserver killed", 1, after),
    ]
