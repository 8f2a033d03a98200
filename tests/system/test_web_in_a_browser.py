"""What people see on the search page, in a real browser."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.artefacts import Artefacts
from tests.support.repositories import demo_repository
from tests.support.servers import SharedServers
from tests.support.web_page import HTML_NAME, Page, chromium, served_page


@pytest.fixture(scope="module")
def page(servers: SharedServers, artefacts: Artefacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    server = servers.on(demo_repository(artefacts))
    with served_page(tmp_path_factory.mktemp("web"), server.grpc_url) as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="no Playwright")
    program = chromium()
    if program is None:
        pytest.skip("no Chromium")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def tab(browser: Any, page: Page) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    tab = context.new_page()
    tab.hosts, tab.said = set(), []
    tab.on("request", lambda request: tab.hosts.add(urllib.parse.urlsplit(request.url).netloc))
    tab.on("console", lambda message: tab.said.append(message.text) if message.type == "error" else None)
    tab.goto(page.url)
    yield tab
    assert tab.hosts <= {page.host, ""}  # and nobody else was called
    assert tab.said == []
    assert tab.title() == "图文搜索"
    context.close()


def names(tab: Any) -> list[str]:
    tab.locator(".tile").first.wait_for()
    return [str(name) for name in tab.locator(".tile .name").all_inner_texts()]


def test_a_query_shows_the_right_pictures_first(tab: Any) -> None:
    tab.get_by_label("text", exact=True).fill("下雨")
    tab.keyboard.press("Enter")
    assert names(tab)[:2] == ["下雨.png", "雨伞.png"]
    assert "毫秒" in tab.get_by_role("status").inner_text()
    tab.get_by_role("button", name="更多").click()
    tab.wait_for_function("document.querySelectorAll('.tile').length == 48")


def test_a_picture_finds_itself_and_more_like_it(tab: Any, page: Page) -> None:
    tab.set_input_files("input[type=file]", page.gallery / "鲸鱼.png")
    assert names(tab)[0] == "鲸鱼.png"
    second = names(tab)[1]
    tab.locator(".tile").nth(1).get_by_role("button", name="找相似的").click()
    tab.wait_for_function("name => document.querySelector('.tile .name').innerText == name", arg=second)
    assert names(tab)[0] == second


def test_words_and_a_picture_are_weighed(tab: Any, page: Page) -> None:
    tab.set_input_files("input[type=file]", page.gallery / "鲸鱼.png")
    assert names(tab)[0] == "鲸鱼.png"
    tab.get_by_label("text", exact=True).fill("下雨")
    slider = tab.get_by_role("slider")
    slider.wait_for()
    box = slider.bounding_box()
    tab.mouse.click(box["x"] + box["width"] - 1, box["y"] + box["height"] / 2)
    tab.wait_for_function("document.querySelector('.tile .name').innerText == '下雨.png'")
    tab.get_by_role("button", name="forget").click()
    assert tab.get_by_role("slider").count() == 0


def test_a_picture_is_opened_and_labelled_by_keyboard(tab: Any) -> None:
    tab.get_by_text("企鹅", exact=True).click()  # an example
    names(tab)
    tab.locator(".tile .frame").first.focus()
    tab.keyboard.press("Enter")
    shown = tab.get_by_role("dialog").locator("img")
    shown.wait_for()
    tab.wait_for_function("document.querySelector('[role=dialog] img').naturalWidth > 0")
    tab.get_by_role("button", name="判断").click()
    tab.get_by_role("dialog").locator(".q-linear-progress").first.wait_for()
    assert "鸟" in tab.get_by_role("dialog").inner_text()


def test_a_bad_upload_gives_a_clear_message(tab: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    tab.set_input_files("input[type=file]", tmp_path / "bad.png")
    tab.get_by_text("这不是可以读取的图片").wait_for()
    (tmp_path / "large.png").write_bytes(bytes(2 << 20))
    tab.set_input_files("input[type=file]", tmp_path / "large.png")
    tab.get_by_text("图片太大: 最多 1 MiB").wait_for()


def test_html_in_names_and_queries_stays_text(tab: Any, page: Page) -> None:
    tab.get_by_label("text", exact=True).fill("<img src=x onerror=document.title='owned'>")
    tab.set_input_files("input[type=file]", page.gallery / HTML_NAME)
    assert names(tab)[0] == HTML_NAME
    assert tab.locator("img[src=x]").count() == 0
