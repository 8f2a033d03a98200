"""Hostile items that are expensive to process may at most double the latency of 64 other callers.

Rounds with and without hostile items alternate in one run, so that a slow or busy machine slows both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.faults.images import good_images
from tests.faults.texts import good_texts
from tests.support.images import jpeg_of_scans, tiff_of_frames
from tuwen import AsyncClient
from tuwen_server import EmbeddedServer
from tuwen_server.traffic import latency_quantile

pytestmark = pytest.mark.alone

CALLERS = 64
CALLS = 12
"""The number of calls that each caller makes in one round."""
ROUNDS = 4
MOST_BYTES = 262_144
PATIENCE = 300.0

HOSTILE: Mapping[str, tuple[Any, str | None]] = {
    "TIFF of 250,000 frames": (tiff_of_frames(250_000), "too_many_frames"),
    "JPEG of 10,000 scans": (jpeg_of_scans(10_000), "too_many_scans"),
    "alternating combining marks": ("a" + "\u0300\u0316" * (MOST_BYTES // 4 - 1), None),
    "mojibake": ("Ã©â€™" * (MOST_BYTES // 12), None),
    "words of 199 letters": (" ".join(["y" * 199] * (MOST_BYTES // 200)), None),
    "punctuation": ("!" * MOST_BYTES, None),
}
"""By name: an expensive item, and the reason for which the server refuses it. None: the item is embedded."""


async def round_of_calls(clients: list[AsyncClient]) -> list[float]:
    """Let all callers make `CALLS` calls at the same time, and return the seconds of each call."""
    images, texts = good_images(CALLERS), good_texts(CALLERS)

    async def call(number: int, clip: AsyncClient) -> list[float]:
        seconds = []
        for turn in range(CALLS):
            start = time.perf_counter()
            if number % 2:
                await clip.embed_images([images[number]])
            else:
                await clip.embed_texts([f"{texts[number]}{turn}{start}"])  # a repeated text might be cached
            seconds.append(time.perf_counter() - start)
        return seconds

    found = await asyncio.gather(*(call(number, clip) for number, clip in enumerate(clients)))
    return [seconds for of_caller in found for seconds in of_caller]


async def attack(clip: AsyncClient) -> None:
    """Send the hostile items in turn until cancelled, and check that each item has its expected outcome.

    The outcome is a vector, or a refusal with the expected reason.
    """
    while True:
        for name, (item, reason) in HOSTILE.items():
            embed: Any = clip.try_embed_texts if isinstance(item, str) else clip.try_embed_images
            [outcome] = await embed([item])
            assert (outcome.error and outcome.error.reason) == reason, name


async def measured(url: str) -> tuple[list[float], list[float]]:
    """Return the seconds of each call without hostile items, and the seconds of each call beside hostile items."""
    options: dict[str, Any] = {"timeout": PATIENCE, "remembered_texts": 0}
    clients = [AsyncClient(url, **options) for _ in range(CALLERS + 1)]
    quiet: list[float] = []
    disturbed: list[float] = []
    try:
        await round_of_calls(clients[:-1])  # connects, and warms up
        for _ in range(ROUNDS):
            quiet += await round_of_calls(clients[:-1])
            attacker = asyncio.create_task(attack(clients[-1]))
            disturbed += await round_of_calls(clients[:-1])
            if attacker.done():
                attacker.result()
            attacker.cancel()
            await asyncio.gather(attacker, return_exceptions=True)
    finally:
        for clip in clients:
            await clip.close()
    return quiet, disturbed


def test_hostile_items_at_most_double_the_latency_of_other_callers(server: EmbeddedServer) -> None:
    quiet, disturbed = asyncio.run(measured(server.grpc_url))
    assert len(quiet) == len(disturbed) == CALLERS * CALLS * ROUNDS
    alone, beside = (latency_quantile(seconds, 0.99) for seconds in (quiet, disturbed))
    print(f"p99 {alone * 1e3:.0f} ms alone, {beside * 1e3:.0f} ms beside hostile items")
    assert beside <= 2 * alone
