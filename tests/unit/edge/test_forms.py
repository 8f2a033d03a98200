"""Multipart forms: images are raw bytes, items keep the order of the parts, and bad images are refused early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from tests.support.edge import EdgeInMemory, png
from tuwen import Client
from tuwen.testing import FakeTransport
from tuwen_edge.errors import EdgeError
from tuwen_edge.forms import Form, FormLimits, read_form

PICTURE = png()
BOUNDARY = "multipart/form-data; boundary=b"


def part(name: str, data: bytes, file: str = "") -> bytes:
    filename = f'; filename="{file}"' if file else ""
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode() + data + b"\r\n"


def read(body: bytes, *, size: int = 7, limits: FormLimits | None = None, seen: list[int] | None = None) -> Form:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            if seen is not None:
                seen.append(start)
            yield body[start : start + size]

    return asyncio.run(read_form(pieces(), BOUNDARY, limits or FormLimits(10, 1_000_000)))


def test_a_form_has_the_vectors_of_json(edge: EdgeInMemory) -> None:
    files = [("input", ("a.png", PICTURE, "image/png")), ("input", (None, "一只猫"))]
    answer = edge.post("/v1/embeddings", files=files, data={"model": "fake"})
    assert answer.status_code == 200
    with Client(transport=FakeTransport()) as client:
        expected = np.concatenate([client.embed_images([PICTURE]), client.embed_texts(["一只猫"])])
    assert np.array_equal(np.float32([one["embedding"] for one in answer.json()["data"]]), expected)


def test_a_form_takes_the_same_settings(edge: EdgeInMemory) -> None:
    settings = {"model": "fake", "encoding_format": "int8", "dimensions": "512", "truncate": "NONE"}
    answer = edge.post("/v1/embeddings", files={"input": (None, "a")}, data=settings)
    assert isinstance(answer.json()["data"][0]["embedding"][0], int)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_parts_do_not_depend_on_how_the_body_arrives(size: int) -> None:
    form = read(part("input", b"\x00\r\n--x\xff", "a.png") + part("input", "猫".encode()) + b"--b--\r\n", size=size)
    assert [(one.name, one.data, one.is_file) for one in form.parts] == [
        ("input", b"\x00\r\n--x\xff", True),
        ("input", "猫".encode(), False),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form",
        part("input", b"a"),
        b"--b\r\nContent-Disposition: form-data\r\n\r\na\r\n--b--\r\n",
        b"--b\r\nX: " + b"a" * 5000 + b"\r\n\r\na\r\n--b--\r\n",
    ],
)
def test_a_body_that_is_not_a_form_is_refused(body: bytes) -> None:
    with pytest.raises(EdgeError) as caught:
        read(body)
    assert caught.value.status == 400


def test_refuses_too_many_parts_before_the_rest_arrives() -> None:
    seen: list[int] = []
    body = part("input", b"a") * 100 + b"--b--\r\n"
    with pytest.raises(EdgeError) as caught:
        read(body, limits=FormLimits(3, 1), seen=seen)
    assert caught.value.status == 413
    assert len(seen) * 7 < len(body) / 10


def test_refuses_too_many_pixels_before_the_rest_arrives() -> None:
    seen: list[int] = []
    noise = np.random.default_rng(0).integers(0, 255, 1 << 20, dtype=np.uint8).tobytes()
    body = part("input", b"a") + part("input", png(size=(2000, 2000)) + noise, "a.png") + b"--b--\r\n"
    with pytest.raises(EdgeError) as caught:
        read(body, size=4096, seen=seen)
    assert (caught.value.status, caught.value.code) == (422, "too_many_pixels")
    [failure] = caught.value.items
    assert failure.index == 1
    assert failure.message == "the image has 2000x2000 pixels, the limit is 1000000"
    assert len(seen) * 4096 < len(body) / 10


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ({"other": (None, "a")}, 400),
        ([("input", (None, "a")), ("model", (None, "fake")), ("model", (None, "fake"))], 400),
        ({"model": (None, "fake")}, 400),
        ({"input": (None, b"\xff")}, 400),
        ([("input", (None, "a")), ("dimensions", (None, "many"))], 400),
    ],
)
def test_refuses_wrong_fields(edge: EdgeInMemory, files: Any, status: int) -> None:
    answer = edge.post("/v1/embeddings", files=files)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] in ("invalid_form", "invalid_request")
