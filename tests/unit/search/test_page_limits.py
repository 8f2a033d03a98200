"""The limits of the search page: one upload is decoded at a time, and a slow embedding has its time."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from unittest.mock import Mock

import pytest

from tuwen_search.web import WebOptions, serve
from tuwen_search.web import _page as page_module
from tuwen_search.web._page import Service, _Page

VISITORS = 6


class Upload:
    """The event of an upload, and its file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.file = self

    async def read(self) -> bytes:
        return self.name.encode()


def test_decodes_the_uploads_of_all_visitors_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, lock, second = 0, 0, threading.Lock(), threading.Event()

    def preview(data: bytes) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running > 1:
                second.set()
        second.wait(0.05)  # gives another thread the time to begin
        with lock:
            running -= 1
        return data.decode()

    async def scenario() -> list[str]:
        shown: list[str] = []
        service = Service(Mock(), Mock(), Mock(), upload_mib=1, examples=())

        async def visit(name: str) -> None:
            page: Any = _Page(service, "en")
            page._upload = Mock()
            page._show_asked = lambda url, _: shown.append(url)
            page.search = _nothing
            await page._uploaded(Upload(name))

        await asyncio.gather(*(visit(str(number)) for number in range(VISITORS)))
        return shown

    monkeypatch.setattr(page_module, "_preview", preview)
    assert sorted(asyncio.run(scenario())) == [str(number) for number in range(VISITORS)]
    assert most == 1


async def _nothing() -> None:
    pass


@pytest.mark.parametrize("timeout", [5.0, 40.0])
def test_the_page_waits_longer_than_its_calls_of_the_server(monkeypatch: pytest.MonkeyPatch, timeout: float) -> None:
    ui = Mock()
    monkeypatch.setattr("nicegui.app", Mock())
    monkeypatch.setattr("nicegui.ui", ui)
    serve(WebOptions("shop", timeout=timeout))
    (path,), settings = ui.page.call_args
    assert path == "/"
    assert settings["response_timeout"] >= 2 * timeout  # a first visit counts the pictures, and may embed a text
    ui.run.assert_called_once()
