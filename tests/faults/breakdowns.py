"""Breakdowns beneath a service, in the middle of two streams. The streams lose and repeat no item."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.faults._endless import Endless
from tests.faults._outcome import Outcome
from tests.faults._server import Served, rooms_of_its_own
from tests.faults._wire import Wire
from tuwen import Client, OverloadedError
from tuwen_server.traffic import photographs

__all__ = ["BREAKDOWNS", "attack_by_replacing", "attack_from_beneath"]

Breakdown = Callable[[Served, Wire], None]
_PATIENCE = 150.0
"""Seconds until answers come again: less than the 180 that a request may take, so no stream is saved by its timeout.

The slowest to be noticed are a server that hangs (given up after 60 seconds) and a connection that carries nothing (a
ping is sent after 30 seconds and given up after 10).
"""
_PAUSE = 1.0  # for what was broken to be itself again


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
    """Large batches take more than the models' processes have."""
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


_NEEDS_ROOMS = {
    "the disk of logs and temporary files full for 5 s, and tritonserver killed": _full_disk,
    "/dev/shm full, and batches that need more of it": _full_memory,
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
    "a network that carries nothing for 8 s": lambda _, wire: wire.silent(8),
    "a network of 64 KiB a second for 8 s": lambda _, wire: wire.slow(1 << 16, 8),
    "connections that carry nothing ever again": lambda _, wire: wire.forget(),
    **_NEEDS_ROOMS,
}
"""By what breaks: how it is broken, and put right where it would not be by itself."""


def attack_from_beneath(
    repository: Path,
    *,
    times: int,
    breakdowns: Mapping[str, Breakdown] = BREAKDOWNS,
    say: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Break one thing after the other."""
    own_rooms = rooms_of_its_own()
    outcomes = []
    with Served(repository, own_rooms=own_rooms) as served, Wire(served.url) as wire:
        for tried, happen in breakdowns.items():
            if tried in _NEEDS_ROOMS and not own_rooms:
                outcomes.append(Outcome(tried, 0, "not tried: mounting takes root"))
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
            items = f"{streams.answered:,} items, each once and right"
            outcomes.append(Outcome(tried, times, f"{longest}; {items}", streams.wrong))
            say(f"{tried}: {max(outages):.1f} s")
    return outcomes


def attack_by_replacing(
    repository: Path, other: Path, folder: Path, *, say: Callable[[str], None] = lambda _: None
) -> list[Outcome]:
    """Replace a served repository by one of another model. No answer may mix the two.

    Args:
        repository: the repository whose copy is served.
        other: the repository that replaces the copy.
        folder: the folder of the copy.
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
    with Served(path, own_rooms=False) as served:
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
        wrong += [said for said in ends if "were given" not in said]  # of a stream that ended, some did not come back
        with Client(served.url) as clip:
            fingerprint = clip.model_card().fingerprint
    say("a served repository replaced")
    files = f"{count:,} answers of the old model, each once and right"
    after = f"the new one ({fingerprint[:8]}) serves, and streams of the old end with EmbeddingSpaceError"
    return [
        Outcome("a served repository's files copied over, cut off, exchanged", 3, files, wrong),
        Outcome("and tritonserver killed", 1, after),
    ]
