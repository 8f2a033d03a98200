"""2,000 calls at once, good and bad mixed: every good item is answered right, every bad one named, the server stays."""

from __future__ import annotations

import random
import threading
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tuwen import Client, InvalidItemsError
from tuwen_build import EmbeddedServer
from tuwen_build.samples import PHOTOGRAPHS, sample

CALLS = 2_000
PHOTOS = [sample(name).read_bytes() for name in PHOTOGRAPHS]
TEXTS = ["一只猫", "a cup of coffee", "火箭发射升空", "", "😀", "一位穿着橙色宇航服的女宇航员在星条旗前微笑"]


def huge_png() -> bytes:
    """A header that claims 2.5 billion pixels."""
    body = (50_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + body + zlib.crc32(b"IHDR" + body).to_bytes(4, "big")


BAD_IMAGES = {
    "corrupt": PHOTOS[0][: len(PHOTOS[0]) // 2],
    "empty": b"",
    "unsupported_format": b"%PDF-1.7",
    "too_many_pixels": huge_png(),
}


def test_good_and_bad_at_once(server: EmbeddedServer) -> None:
    with Client(server.grpc_url, timeout=120) as clip:
        expected_images = clip.embed_images(PHOTOS)
        expected_texts = clip.embed_texts(TEXTS)
        outcomes: Counter[str] = Counter()
        start = threading.Barrier(CALLS)

        def call(number: int) -> str:
            choice = random.Random(number)
            kind = choice.choice(["image", "text", *BAD_IMAGES, "too_many_bytes"])
            start.wait(timeout=60)
            if kind == "image":
                index = choice.randrange(len(PHOTOS))
                return _judge(clip.embed_images([PHOTOS[index]])[0], expected_images[index])
            if kind == "text":
                index = choice.randrange(len(TEXTS))
                return _judge(clip.embed_texts([TEXTS[index]])[0], expected_texts[index])
            try:
                if kind == "too_many_bytes":
                    clip.embed_texts(["x" * 300_000])
                else:
                    clip.embed_images([BAD_IMAGES[kind]])
            except InvalidItemsError as error:
                (failure,) = error.failures
                return f"{failure.index} {failure.reason}" if failure.reason == kind else f"wrong reason: {error}"
            return f"{kind} was accepted"

        with ThreadPoolExecutor(CALLS) as pool:
            outcomes.update(pool.map(call, range(CALLS)))
        print(dict(outcomes))
        assert set(outcomes) == {"right", *(f"0 {reason}" for reason in (*BAD_IMAGES, "too_many_bytes"))}
        assert sum(outcomes.values()) == CALLS
        assert outcomes["right"] > CALLS / 5
        assert clip.is_ready()
        np.testing.assert_allclose(clip.embed_images(PHOTOS), expected_images, atol=1e-5)


def _judge(vector: np.ndarray, expected: np.ndarray) -> str:  # type: ignore[type-arg]
    difference = np.abs(vector - expected).max()
    return "right" if difference < 1e-5 else f"off by {difference}"
