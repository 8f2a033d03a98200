"""The page answers only under allowed host names, over HTTP and over WebSockets."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from PIL import Image

from tuwen_search.records import describe
from tuwen_search.web import WebOptions
from tuwen_search.web._guard import Guard


def answer(kind: str, *hosts: str) -> dict[str, Any]:
    """Return the page's first response message to a request with these host headers."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, _: Any, send: Any) -> None:
        start = "http.response.start" if scope["type"] == "http" else "websocket.accept"
        await send({"type": start, "status": 200})

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", host.encode()) for host in hosts]
    guard = Guard(app, most_bytes=1, hosts=["Gallery.example"])
    asyncio.run(guard({"type": kind, "headers": headers}, None, send))  # type: ignore[arg-type]
    return sent[0]


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]", "192.168.1.7:8080", "gallery.example",
     "GALLERY.example:443", "localhost."],
)  # fmt: skip
def test_answers_under_its_own_names_and_addresses(host: str) -> None:
    assert answer("http", host)["status"] == 200
    assert answer("websocket", host)["type"] == "websocket.accept"


@pytest.mark.parametrize(
    "hosts",
    [["evil.example:8080"], ["127.0.0.1.evil.example"], ["localhost.evil.example"], [""], [], ["localhost"] * 2],
)
def test_refuses_every_other_name(hosts: list[str]) -> None:
    assert answer("http", *hosts)["status"] == 400
    assert answer("websocket", *hosts)["type"] == "websocket.close"


def test_a_picture_over_the_servers_limit_of_pixels_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.new("1", (8001, 8000)).save(file, "PNG")
    Image.init()  # Pillow's plugins open pictures when they are loaded
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    assert describe(file.getvalue(), source="", name="", version="", metadata={}).thumbnail == b""


def test_the_options_of_the_page_show_no_header() -> None:
    assert "s3cret" not in repr(
        WebOptions("x", headers={"authorization": "s3cret"}, store="http://root:s3cret@milvus:19530")
    )
