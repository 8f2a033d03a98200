"""Tests of the documentation site in a browser. The site is built with the commands of `make docs`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

from tests.support.paths import ROOT
from tests.support.web_page import chromium

pytestmark = [
    pytest.mark.skipif(chromium() is None, reason="no browser; install it with: tests/environments.sh chromium"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm, which fetches Mermaid, is not installed"),
]
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Suppress the log line of a request."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Build and serve the site, and yield its folder and its address."""
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    for command in (
        ["make", ".cache/docs/mermaid.min.js"],
        [sys.executable, "-m", "docs.staging"],
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
    ):
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(params=WIDTHS)
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    width, height = WIDTHS[request.param]
    context = browser.new_context(viewport={"width": width, "height": height})
    yield context.new_page()
    context.close()


def test_every_page_fits_its_window_and_calls_no_other_host(site: tuple[Path, str], page: Page) -> None:
    folder, address = site
    hosts, missing, wide = set(), set(), []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.on("response", lambda response: missing.add(response.url) if response.status >= 400 else None)
    paths = sorted(path.parent.relative_to(folder).as_posix() for path in folder.rglob("index.html"))
    assert len(paths) >= 100
    for path in paths:
        page.goto(f"{address}/{path}/", wait_until="load")
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(path)
    assert hosts - {""} == {urlsplit(address).netloc}  # a data: URL has no host
    assert [
        url for url in missing if not url.endswith("/sitemap.xml")
    ] == []  # the theme requests sitemaps that do not exist
    assert wide == []


@pytest.mark.parametrize(
    ("start", "query", "title"),
    [
        ("", "fingerprint", "Embedding spaces"),
        ("", "half-second", "Batching and overload"),
        ("", "open-loop", "Load test a server"),
        ("zh/", "指纹", "向量空间"),
        ("zh/", "批处理", "批处理与过载"),
        ("zh/", "阈值", "分数的含义"),
        ("zh/", "滚动更新", "部署"),
        ("zh/", "开环", "负载测试"),
        ("zh/", "熔断", "部署"),
        ("zh/", "错误预算", "告警触发后怎么办"),
    ],
)
def test_the_search_finds_a_page(site: tuple[Path, str], page: Page, start: str, query: str, title: str) -> None:
    _search(f"{site[1]}/{start}", page, query)
    found = [
        heading.replace("\u200b", "").strip()
        for heading in page.locator(".md-search-result__item h1").all_inner_texts()
    ]
    assert title in found


def _search(address: str, page: Page, query: str) -> None:
    page.goto(address)
    if (page.viewport_size or {}).get("width") == WIDTHS["phone"][0]:
        page.locator("label.md-header__button[for=__search]").click()
    search = page.locator(".md-search__input")
    search.focus()
    search.type(query)
    page.keyboard.press("End")  # the theme waits for a key, and typed Chinese characters send none
    page.locator(".md-search-result__item h1").first.wait_for(timeout=60_000)


@pytest.mark.parametrize("path", ["reference/configuration/", "zh/reference/configuration/"])
def test_names_in_tables_are_not_wrapped(site: tuple[Path, str], page: Page, path: str) -> None:
    page.goto(f"{site[1]}/{path}")
    codes = page.locator("td code").evaluate_all(
        "codes => codes.map(code => [code.textContent, code.getClientRects().length])"
    )
    names = {text: lines for text, lines in codes if text.replace("_", "").isalnum()}
    assert "MAX_IMAGE_PIXELS" in names
    assert {text for text, lines in names.items() if lines > 1} == set()


@pytest.mark.parametrize(("query", "words"), [("过载", {"过载"}), ("指纹", {"指纹"}), ("模型仓库", {"模型", "仓库"})])
def test_the_search_marks_only_the_words_of_a_chinese_query(
    site: tuple[Path, str], page: Page, query: str, words: set[str]
) -> None:
    _search(site[1] + "/zh/", page, query)
    found = page.locator(".md-search-result__item mark").all_inner_texts()
    assert {word.replace("\u200b", "") for word in found} - {""} == words
    assert (
        "".join(page.locator(".md-search-result__item").first.locator("del").all_inner_texts()) == ""
    )  # words of the query that the page lacks


@pytest.mark.parametrize("path", ["architecture/", "zh/architecture/", "concepts/batching/", "zh/concepts/batching/"])
def test_diagrams_are_drawn(site: tuple[Path, str], page: Page, path: str) -> None:
    page.goto(f"{site[1]}/{path}")
    page.locator("div.mermaid").first.wait_for(timeout=60_000)  # the theme replaces the text with a drawing
    assert page.locator("pre.mermaid").count() == 0


def test_the_english_page_links_to_its_chinese_translation(site: tuple[Path, str], page: Page) -> None:
    page.goto(f"{site[1]}/guides/sdk/")
    chinese = page.locator("a[hreflang=zh]").first.get_attribute("href")
    assert chinese
    page.goto(f"{page.url}{chinese}" if not chinese.startswith(("/", "http")) else f"{site[1]}{chinese}")
    assert page.locator("h1").first.inner_text().startswith("Python 客户端")
