"""The page of a shop with prices and categories, as a visitor uses it on a desktop and on a phone."""

from __future__ import annotations

import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import TUWEN, started, tuwen_process, wait_until
from tests.support.servers import SharedServers
from tests.support.shop import Shop
from tests.support.web_page import answers, axe_core

pytest.importorskip("pymilvus")
PICTURES = 300  # 100 of each category, and more than one page of each


@pytest.fixture(scope="module")
def address(servers: SharedServers, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a running search page for the pictures of a shop."""
    server = servers.on(repository)
    shop = Shop(tmp_path_factory.mktemp("shop"), PICTURES)
    store = {"TUWEN_STORE": str(shop.folder / "shop.db"), "TUWEN_URL": server.grpc_url}
    environment = {**os.environ, **store}
    tuwen_process("index", str(shop.table), "--into", "shop", env=environment)
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = [
        TUWEN,
        "web",
        "shop",
        "--port",
        url.rpartition(":")[2],
        "--pictures",
        str(shop.folder),
        "--language",
        "en",
    ]

    with started(command, env=environment) as web:
        wait_until(lambda: answers(url), running=web)
        yield url
        web.terminate()


@pytest.mark.parametrize(("width", "height"), [(1200, 860), (390, 844)], ids=["desktop", "phone"])
def test_a_visitor_filters_opens_and_returns(browser: Any, address: str, width: int, height: int) -> None:
    tab = browser.new_context(viewport={"width": width, "height": height}, has_touch=width < 640).new_page()
    failed: list[str] = []
    tab.on("pageerror", lambda error: failed.append(str(error)))
    tab.goto(address)
    tab.locator("#q").fill("红色的鞋")
    tab.keyboard.press("Enter")
    tab.locator("#status", has_text=f"All {PICTURES} pictures, closest first · 1–24").wait_for()
    tab.locator("#filter-button").click()
    tab.get_by_role("checkbox", name="鞋 100").check()
    tab.get_by_label("price to").fill("104")
    tab.get_by_role("button", name="Show 34 pictures").click()  # every third of the 100 cheapest
    tab.locator("#status", has_text="All 34 pictures that pass the filters, closest first · 1–24").wait_for()
    assert tab.locator("#filters").is_visible() == (width > 640)
    assert sorted(tab.locator(".chip span").all_inner_texts()) == ["price ≤ 104", "类别: 鞋"]
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if axe := axe_core():
        tab.evaluate(axe)
        assert tab.evaluate("axe.run()")["violations"] == []
    tab.locator(".frame").first.click()
    dialog = tab.locator("dialog.picture:modal")
    dialog.wait_for()
    assert "products.csv" in dialog.locator("dl").inner_text()
    assert float(dialog.locator("dt", has_text="price").locator("+ dd").inner_text()) <= 104
    tab.go_back()
    dialog.wait_for(state="hidden")
    tab.locator(".pages a[rel=next]").click()
    tab.locator("#status", has_text="All 34 pictures that pass the filters, closest first · 25–34").wait_for()
    tab.go_back()
    tab.locator("#status", has_text="All 34 pictures that pass the filters, closest first · 1–24").wait_for()
    tab.reload()
    tab.locator("#status", has_text="All 34 pictures that pass the filters, closest first · 1–24").wait_for()
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(tab.url).query)
    assert (query["f.类别"], query["max.price"]) == (["鞋"], ["104"])
    tab.get_by_role("link", name="Remove: 类别: 鞋").click()
    tab.locator("#status", has_text="All 100 pictures that pass the filters").wait_for()
    assert failed == []
    tab.context.close()
