"""The number of calls that wait for the dynamic batcher of Triton 2.51.

If a queue has a policy, a model that becomes free does not wake the batcher. The batcher may then look at the queue
only half a second later. The tiny model needs much less time for a call, so a call of more than 400 ms has waited for
the batcher.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from tuwen import Client
from tuwen_server import EmbeddedServer, ServerOptions
from tuwen_server.traffic import photographs, queries

__all__ = ["WAIT", "Waits", "count_waits", "measure_waits"]

WAIT = 0.4
"""The duration in seconds. A longer call counts as a call that waited for the batcher."""
_TEXTS, _IMAGES, _BURSTS = (2, 8, 64), (16, 32), (4, 16)
_LONE = 5  # the factor of the number of calls with a single text
_SIZE = (64, 64)


@dataclass(frozen=True)
class Waits:
    """The waiting times of the calls of one kind.

    Attributes:
        calls: the number of calls.
        waited: the number of calls that took longer than `WAIT`.
        longest: the time of the slowest call in seconds.
    """

    calls: int
    waited: int
    longest: float


def count_waits(ask: Callable[[], object], calls: int, *, clock: Callable[[], float] = time.perf_counter) -> Waits:
    """Make one call after another, and count the calls that waited for the batcher.

    Args:
        ask: a function that makes one call.
        calls: the number of calls.
        clock: a function that returns the time in seconds. Tests pass a clock of their own.
    """
    taken = []
    for _ in range(calls):
        start = clock()
        ask()
        taken.append(clock() - start)
    return Waits(calls, sum(seconds > WAIT for seconds in taken), max(taken))


def measure_waits(repository: Path, calls: int) -> Mapping[str, Waits]:
    """Serve a repository of the tiny model with and without queue policies, and measure every kind of call.

    Args:
        repository: the folder of a repository with the tiny model.
        calls: the number of calls of each kind with several items. There are five times as many calls with one text.

    Returns:
        The measurements by kind of call, such as ``2 texts``. Names end with ``, with queue policies`` if the server
        has queue policies.
    """
    found: dict[str, Waits] = {}
    for policies, suffix in ((False, ""), (True, ", with queue policies")):
        options = replace(ServerOptions.on_free_ports(), queue_policies=policies)
        with (
            EmbeddedServer(repository, options) as server,
            Client(server.grpc_url, remembered_texts=0) as clip,
            ThreadPoolExecutor(max(_BURSTS)) as pool,
        ):
            found |= {f"{name}{suffix}": waits for name, waits in _measure(clip, pool, calls)}
    return found


def _measure(clip: Client, pool: ThreadPoolExecutor, calls: int) -> Iterator[tuple[str, Waits]]:
    texts = iter(queries(calls * (_LONE + sum(_TEXTS) + sum(_BURSTS))))
    [photo] = photographs(1, size=_SIZE)

    def embed_texts(count: int) -> None:
        clip.embed_texts(list(islice(texts, count)))

    def embed_images(count: int) -> None:
        clip.embed_images([photo] * count)

    def burst(count: int) -> None:
        list(pool.map(lambda text: clip.embed_texts([text]), list(islice(texts, count))))

    yield "the same text again", count_waits(lambda: clip.embed_texts(["一只猫又来了"]), _LONE * calls)
    yield "1 text", count_waits(partial(embed_texts, 1), _LONE * calls)
    for count in _TEXTS:
        yield f"{count} texts", count_waits(partial(embed_texts, count), calls)
    for count in _IMAGES:
        yield f"{count} images", count_waits(partial(embed_images, count), calls)
    for count in _BURSTS:
        yield f"{count} callers at once", count_waits(partial(burst, count), calls)
