"""The memory of a call. A call holds only its requests in flight, whatever the number of items is."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.blocking import Make
from tuwen._transport import InferRequest
from tuwen.testing import FakeTransport

IN_FLIGHT = 8 + 2  # the limit of a call, one request that is being built, and one whose response is being read
IMAGES_PER_REQUEST = 8


class Watching(FakeTransport):
    """A fake transport that keeps no request, and counts the request objects that exist.

    Attributes:
        most_requests: the largest number of request objects that existed when a request arrived.
    """

    def __init__(self) -> None:
        super().__init__()
        self._living = 0
        self.most_requests = 0

    def send(self, request: InferRequest, timeout: float) -> Any:
        self._living += 1
        weakref.finalize(request, self._request_ended)
        self.most_requests = max(self.most_requests, self._living)
        answered = super().send(request, timeout)
        self.requests.clear()
        return answered

    def _request_ended(self) -> None:
        self._living -= 1


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "embed": lambda clip, images: clip.embed_images(images),
    "try_embed": lambda clip, images: clip.try_embed_images(images),
    "classify": lambda clip, images: clip.classify(images, ["猫"]),
}


@pytest.mark.parametrize("preprocess", ["server", "client"])
@pytest.mark.parametrize("call", CALLS)
def test_a_request_of_images_is_freed_after_its_response(
    make: Make, tmp_path: Path, preprocess: str, call: str
) -> None:
    fake = Watching()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    with make(fake, preprocess=preprocess) as clip:
        CALLS[call](clip, [tmp_path / "red.png"] * (2 * IN_FLIGHT * IMAGES_PER_REQUEST))
    assert fake.most_requests <= IN_FLIGHT


def test_a_request_of_texts_is_freed_after_its_response(make: Make) -> None:
    fake = Watching()
    texts = [f"第{number}句" for number in range(2 * IN_FLIGHT * 32)]
    with make(fake) as clip:
        clip.embed_texts(texts)
        clip.profile(texts=texts)
    assert fake.most_requests <= IN_FLIGHT
