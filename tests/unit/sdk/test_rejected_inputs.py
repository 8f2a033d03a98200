"""Inputs and settings that the SDK rejects before it sends a request, and responses that it cannot read."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import service_pb2

from tuwen import AsyncClient, Client, ClientClosedError, DeadlineExceededError, InferenceError, InvalidArgumentError
from tuwen._messages import decode_response
from tuwen._routes import Route, Threads
from tuwen.testing import FakeTransport
from tuwen_files import EmbeddingTable


class TextFile(io.BytesIO):
    """A file object that returns str from `read`, although its class derives from `io.BytesIO`."""

    def read(self, *_: Any) -> Any:
        return "cat"


def test_a_file_that_returns_text_is_refused() -> None:
    message = r"image 0: expected an image file opened in binary mode \('rb'\), got a file that returns str"
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match=message):
        clip.embed_images([TextFile()])


def test_an_image_that_pillow_cannot_encode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("encoder error -2")

    monkeypatch.setattr(Image.Image, "save", fail)
    with Client(transport=FakeTransport()) as clip:
        [outcome] = clip.try_embed_images([Image.new("RGB", (4, 4))])
    assert outcome.error is not None
    assert (outcome.error.reason, outcome.error.message) == (
        "unreadable",
        "cannot encode the PIL image: encoder error -2",
    )


def test_names_the_allowed_priorities() -> None:
    with pytest.raises(InvalidArgumentError, match="priority: expected 'interactive' or 'bulk', got 'low'"):
        Client(transport=FakeTransport(), priority="low")  # type: ignore[arg-type]


def test_a_closed_thread_pool_raises_client_closed_error() -> None:
    threads = Threads(2, "decode")
    pool = threads.pool()
    threads.close()
    route = Route("text", "text_embedding", "text", outputs=(), to_payload=str.encode, pool=pool)
    with pytest.raises(ClientClosedError):
        route.payloads(["猫", "狗"])


def test_an_output_of_an_unknown_type_is_named() -> None:
    message = service_pb2.ModelInferResponse(model_name="text_embedding")
    message.outputs.add(name="embedding", datatype="FP8", shape=[1, 4])
    message.raw_output_contents.append(bytes(4))
    with pytest.raises(InferenceError, match="output 'embedding': expected .*, got FP8"):
        decode_response(message)


def test_a_table_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "vectors.npz"
    (folder / "inside").mkdir(parents=True)
    table = EmbeddingTable(["cat.jpg"], np.ones((1, 4), dtype=np.float32) / 2, "a" * 32)
    with pytest.raises(InvalidArgumentError, match=f"cannot write '{folder}': Is a directory"):
        table.save(folder)


def test_headers_that_never_come_end_a_call_at_its_deadline() -> None:
    async def never() -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    async def call() -> None:
        async with AsyncClient("localhost:1", headers=never, timeout=0.05) as clip:
            await clip.embed_texts(["猫"])

    with pytest.raises(DeadlineExceededError, match="the function that returns the headers did not return"):
        asyncio.run(call())
