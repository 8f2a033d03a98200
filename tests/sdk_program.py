"""Make a few calls with the installed SDK, to a fake server in memory or to the server at an address.

    python -m tests.sdk_program [URL]

Workflows and the test of fresh environments run this program in environments with ``pip install tuwen`` alone.
"""

from __future__ import annotations

import asyncio
import io
import sys

import numpy as np
from PIL import Image

from tuwen import AsyncClient, Client, InvalidItemsError
from tuwen.testing import AsyncFakeTransport, FakeTransport

__all__ = ["main"]


def main(url: str | None = None) -> None:
    """Embed images and texts with both clients, and print the probabilities of two texts."""
    colours = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    colours[0].save(buffer, "PNG")
    images = [*colours, buffer.getvalue()]
    fake = None if url else FakeTransport()
    with Client(url or "localhost:8001", transport=fake) as clip:
        vectors = clip.embed_images(images)
        scores = clip.similarity(images=images, texts=["红色", "蓝色"])
        try:
            clip.embed_images([b"not an image"])
        except InvalidItemsError as error:
            assert [failure.index for failure in error.failures] == [0]
        else:
            raise AssertionError("the client accepted bytes that are not an image; expected InvalidItemsError")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(scores.probabilities.sum(axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(asyncio.run(_asynchronously(url, buffer.getvalue())), vectors[2:], atol=1e-4)
    print(scores.probabilities.round(3).tolist())


async def _asynchronously(url: str | None, image: bytes) -> np.ndarray:
    async with AsyncClient(url or "localhost:8001", transport=None if url else AsyncFakeTransport()) as clip:
        return await clip.embed_images([image])


if __name__ == "__main__":
    main(*sys.argv[1:])
