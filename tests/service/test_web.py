"""The page on which people search: what it refuses, and what a real browser sees."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import TUWEN, started, tuwen, wait_until
from tests.support.paths import ROOT
from tests.support.servers import RecordedServer
from tuwen import Client
from tuwen_build.repository import build_repository
from tuwen_build.server import ServerOptions
from tuwen_search import Collection

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
EVIL = "<img src=x onerror=document.title='owned'>.png"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's pictures, one with a name that is HTML, one that is a link out of the folder."""
    root = tmp_path_factory.mktemp("web")
    folder = root / "gallery"
    shutil.copytree(ROOT / "build" / "demo" / "gallery", folder)
    shutil.copy(folder / "猫头鹰.png", root / "secret.png")
    (folder / "link.png").symlink_to(root / "secret.png")
    shutil.move(folder / "足球.png", folder / EVIL)
    return folder


@pytest.fixture(scope="module")
def page(gallery: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of the page, and the IDs of its pictures by name."""
    root = gallery.parent
    build_repository(str(ROOT / "build" / "demo" / "checkpoint"), root / "repository")
    with RecordedServer(root / "repository", ServerOptions.on_free_ports()) as server:
        where = ("--store", str(root / "search.db"), "--url", server.grpc_url)
        tuwen("index", str(gallery), "--into", "gallery", *where)
        with Client(server.grpc_url) as clip, Collection.open("gallery", clip, store=where[1]) as pictures:
            ids = {hit.picture.name: hit.picture.id for hit in pictures.search("图片", limit=200).hits}
        port = str(ServerOptions.on_free_ports().with_ports_resolved().http_port)
        command = [TUWEN, "web", "gallery", *where, "--port", port, "--pictures", str(gallery)]
        command += ["--upload-mib", "1", "--example", "企鹅"]
        # NiceGUI expects to be in a test of its own kind where it sees pytest.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        pipe = subprocess.PIPE
        with started(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
            assert process.stdout is not None
            assert "gallery: 142 pictures" in process.stdout.readline()
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: answers(url), running=process)
            yield url, ids
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        assert "Traceback" not in errors


def answers(url: str) -> bool:
    """Whether somebody listens; who comes as soon as that is so gets the page, too."""
    try:
        status, _, _ = get(url)
    except urllib.error.URLError:
        return False
    assert status == 200
    return True


def get(url: str) -> tuple[int, dict[str, str], bytes]:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status, dict(response.headers.items()), response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers.items()), error.read()


class TestWithoutABrowser:
    def test_pictures_are_shown_in_full_out_of_the_named_folder_alone(
        self, page: tuple[str, dict[str, str]], gallery: Path
    ) -> None:
        url, ids = page
        status, headers, body = get(f"{url}/pictures/{ids['企鹅.png']}")
        assert (status, headers["content-type"]) == (200, "image/png")
        assert headers["x-content-type-options"] == "nosniff"
        assert body == (gallery / "企鹅.png").read_bytes()
        status, headers, body = get(f"{url}/pictures/{ids['link.png']}")  # leads out: its thumbnail, which was indexed
        assert (status, headers["content-type"]) == (200, "image/webp")
        assert body != (gallery.parent / "secret.png").read_bytes()

    @pytest.mark.parametrize(
        "path",
        [
            "0" * 32,
            "x",
            "..%2f..%2f..%2fetc%2fpasswd",
            "../../etc/passwd",
            "%00",
            "a" * 5000,
            '" or true or "',
            "F" * 32,
        ],
    )
    def test_whatever_is_no_picture_is_not_found(self, page: tuple[str, dict[str, str]], path: str) -> None:
        host = page[0].removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request("GET", f"/pictures/{urllib.parse.quote(path, safe='%./')}")
        response = connection.getresponse()
        body = response.read()
        connection.close()
        assert response.status == 404
        assert b"root:" not in body

    def test_what_is_too_large_is_refused_before_it_is_read(self, page: tuple[str, dict[str, str]]) -> None:
        host = page[0].removeprefix("http://")
        for headers in ({"Content-Length": str(5 << 20)}, {"Transfer-Encoding": "chunked"}, {"Content-Length": "-1"}):
            connection = http.client.HTTPConnection(host, timeout=30)
            connection.putrequest("POST", "/_nicegui/client/x/upload/1")
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            assert connection.getresponse().status in (400, 413)
            connection.close()

    def test_a_query_is_never_html(self, page: tuple[str, dict[str, str]]) -> None:
        status, headers, body = get(f"{page[0]}/?q={urllib.parse.quote('</script><script>alert(1)</script>')}")
        assert status == 200
        assert b"<script>alert(1)" not in body
        assert EVIL.encode() not in body
        assert "default-src 'self'" in headers["content-security-policy"]

    def test_the_page_speaks_both_languages_and_takes_any(self, page: tuple[str, dict[str, str]]) -> None:
        assert "图文搜索".encode() in get(page[0])[2]
        assert b"Picture search" in get(f"{page[0]}/?language=en")[2]
        assert get(f"{page[0]}/?language=<b>")[0] == 200


def test_wrong_use_is_one_line(tmp_path: Path) -> None:
    assert "--language is zh or en" in tuwen("web", "x", "--language", "fr", code=2).stderr
    assert "there is no folder" in tuwen("web", "x", "--pictures", str(tmp_path / "x"), code=1).stderr
    assert "UNAVAILABLE" in tuwen("web", "x", "--url", "127.0.0.1:1", "--timeout", "1", code=1).stderr


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="no Playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


class TestInABrowser:
    @pytest.fixture
    def tab(self, browser: Any, page: tuple[str, dict[str, str]]) -> Iterator[Any]:
        context = browser.new_context(viewport={"width": 1200, "height": 900})
        tab = context.new_page()
        tab.hosts, tab.said = set(), []
        tab.on("request", lambda request: tab.hosts.add(urllib.parse.urlsplit(request.url).netloc))
        tab.on("console", lambda message: tab.said.append(message.text) if message.type == "error" else None)
        tab.goto(page[0])
        yield tab
        assert tab.hosts <= {page[0].removeprefix("http://"), ""}  # and nobody else was called
        assert tab.said == []
        assert tab.title() == "图文搜索"
        context.close()

    @staticmethod
    def names(tab: Any) -> list[str]:
        tab.locator(".tile").first.wait_for()
        return [str(name) for name in tab.locator(".tile .name").all_inner_texts()]

    def test_a_query_shows_the_right_pictures_first(self, tab: Any) -> None:
        tab.get_by_label("text", exact=True).fill("下雨")
        tab.keyboard.press("Enter")
        assert self.names(tab)[:2] == ["下雨.png", "雨伞.png"]
        assert "毫秒" in tab.get_by_role("status").inner_text()
        tab.get_by_role("button", name="更多").click()
        tab.wait_for_function("document.querySelectorAll('.tile').length == 48")

    def test_a_picture_finds_itself_and_more_like_it(self, tab: Any, gallery: Path) -> None:
        tab.set_input_files("input[type=file]", gallery / "鲸鱼.png")
        assert self.names(tab)[0] == "鲸鱼.png"
        second = self.names(tab)[1]
        tab.locator(".tile").nth(1).get_by_role("button", name="找相似的").click()
        tab.wait_for_function("name => document.querySelector('.tile .name').innerText == name", arg=second)
        assert self.names(tab)[0] == second

    def test_words_and_a_picture_are_weighed(self, tab: Any, gallery: Path) -> None:
        tab.set_input_files("input[type=file]", gallery / "鲸鱼.png")
        assert self.names(tab)[0] == "鲸鱼.png"
        tab.get_by_label("text", exact=True).fill("下雨")
        slider = tab.get_by_role("slider")
        slider.wait_for()
        box = slider.bounding_box()
        tab.mouse.click(box["x"] + box["width"] - 1, box["y"] + box["height"] / 2)
        tab.wait_for_function("document.querySelector('.tile .name').innerText == '下雨.png'")
        tab.get_by_role("button", name="forget").click()
        assert tab.get_by_role("slider").count() == 0

    def test_a_picture_is_opened_and_labelled_by_keyboard(self, tab: Any) -> None:
        tab.get_by_text("企鹅", exact=True).click()  # an example
        self.names(tab)
        tab.locator(".tile .frame").first.focus()
        tab.keyboard.press("Enter")
        shown = tab.get_by_role("dialog").locator("img")
        shown.wait_for()
        tab.wait_for_function("document.querySelector('[role=dialog] img').naturalWidth > 0")
        tab.get_by_role("button", name="判断").click()
        tab.get_by_role("dialog").locator(".q-linear-progress").first.wait_for()
        assert "鸟" in tab.get_by_role("dialog").inner_text()

    def test_a_bad_upload_gives_a_clear_message(self, tab: Any, tmp_path: Path) -> None:
        (tmp_path / "bad.png").write_bytes(b"no picture")
        tab.set_input_files("input[type=file]", tmp_path / "bad.png")
        tab.get_by_text("这不是可以读取的图片").wait_for()
        (tmp_path / "large.png").write_bytes(bytes(2 << 20))
        tab.set_input_files("input[type=file]", tmp_path / "large.png")
        tab.get_by_text("图片太大: 最多 1 MiB").wait_for()

    def test_html_in_names_and_queries_stays_text(self, tab: Any, gallery: Path) -> None:
        tab.get_by_label("text", exact=True).fill("<img src=x onerror=document.title='owned'>")
        tab.set_input_files("input[type=file]", gallery / EVIL)
        assert self.names(tab)[0] == EVIL
        assert tab.locator("img[src=x]").count() == 0
