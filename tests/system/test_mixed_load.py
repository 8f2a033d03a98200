"""Among 2,000 concurrent calls, every good item gets its vector, and every bad item its reason."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.images import huge_png
from tuwen import Client, InvalidItemsError
from tuwen._grpc import GrpcTransport
from tuwen._requests import Part, batch_of
from tuwen._responses import assemble, parse
from tuwen._routes import Routes
from tuwen_repository.samples import PHOTOGRAPHS, sample
from tuwen_server import EmbeddedServer

pytestmark = pytest.mark.alone

CALLS = 2_000
PATIENCE = 600.0
PHOTOS = [sample(name).read_bytes() for name in PHOTOGRAPHS]
TEXTS = ["一只猫", "a cup of coffee", "火箭发射升空", "", "😀", "一位穿着橙色宇航服的女宇航员在星条旗前微笑"]
GOOD_ITEMS: dict[str, list[Any]] = {"image": PHOTOS, "text": TEXTS}
# By reason: the kind of the items, and items that the server refuses for this reason.
BAD_ITEMS: dict[str, tuple[Any, list[Any]]] = {
    "corrupt": ("image", [PHOTOS[0][: len(PHOTOS[0]) // 2], PHOTOS[1][:3000]]),
    "empty": ("image", [b""]),
    "unsupported_format": ("image", [b"%PDF-1.7", b"GIF", bytes(1000)]),
    "too_many_pixels": ("image", [huge_png()]),
    "too_many_bytes": ("text", ["x" * 300_000]),
}


def test_bad_items_are_refused_and_do_not_affect_other_calls(server: EmbeddedServer) -> None:
    """Bad items are refused with their reason, and good items of other calls get their vectors.

    One thread sends the 2,000 calls with the client's internal functions. With one thread for each call, the threads
    would compete with the server for the cores.
    """
    choice = random.Random(0)
    transport = GrpcTransport(server.grpc_url)
    with Client(server.grpc_url, transport=transport, timeout=PATIENCE) as clip:
        expected = {"image": clip.embed_images(PHOTOS), "text": clip.embed_texts(TEXTS)}
        card = clip.model_card()
        calls = []
        for _ in range(CALLS):
            kind = choice.choice(["image", "text", *BAD_ITEMS])
            model, items = BAD_ITEMS.get(kind) or (kind, GOOD_ITEMS[kind])
            index = choice.randrange(len(items))
            batch = batch_of(Routes().to(model, card), Part(((0,),), (items[index],)))
            calls.append((kind, index, batch, transport.send(batch.request, timeout=PATIENCE)))
        outcomes: Counter[str] = Counter()
        for kind, index, batch, pending in calls:
            try:
                parsed = parse(batch, pending.result(), card)
                vector = assemble(batch.request.input_name, 1, card.embedding_dimension, [parsed])[0]
                outcomes[_judge(kind, vector, expected[kind][index])] += 1
            except InvalidItemsError as error:
                (failure,) = error.failures
                right = (failure.index, failure.reason) == (0, kind)
                outcomes[f"named {kind}" if right else f"{kind}: {error}"] += 1
        print(dict(outcomes))
        assert set(outcomes) == {"right image", "right text", *(f"named {reason}" for reason in BAD_ITEMS)}
        assert sum(outcomes.values()) == CALLS
        assert clip.is_ready()
        np.testing.assert_allclose(clip.embed_images(PHOTOS), expected["image"], atol=1e-5)


def _judge(kind: str, vector: NDArray[np.float32], expected: NDArray[np.float32]) -> str:
    difference = np.abs(vector - expected).max()
    return f"right {kind}" if difference < 1e-5 else f"a wrong vector of the kind {kind}: differs by {difference}"
