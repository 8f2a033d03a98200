"""The search page of `tuwen web`, which shows the demo's pictures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.command import TUWEN, started, tuwen, wait_until
from tests.support.paths import ENVIRONMENTS, ROOT
from tuwen import Client
from tuwen_search import Collection
from tuwen_server import ServerOptions

__all__ = ["CATEGORIES", "HTML_NAME", "Page", "answers", "axe_core", "chromium", "get", "open_browser", "served_page"]

HTML_NAME = "<img src=x onerror=document.title='owned'>.png"
"""The file name of one picture. The page must show this HTML as text."""
CATEGORIES = ("动物", "食物", "其他")
"""The values of the metadata field 类别."""


def chromium() -> str | None:
    """Return the path of Chromium, which the system or `tests/environments.sh chromium` installed; None: not found."""
    names = ("chromium", "google-chrome", "chromium-browser")
    return next(filter(None, map(shutil.which, names)), None) or shutil.which(ENVIRONMENTS / "chromium" / "chromium")


@contextmanager
def open_browser() -> Iterator[Any]:
    """Run the Chromium that `chromium` finds, without a window, and provide it as a `Browser` of Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


def axe_core() -> str | None:
    """Return the source of axe-core, which `tests/environments.sh axe` fetches; None if it is missing."""
    path = ENVIRONMENTS / "axe" / "package" / "axe.min.js"
    return path.read_text() if path.is_file() else None


@dataclass(frozen=True)
class Page:
    """The search page of a running `tuwen web`.

    Attributes:
        url: the address of the page, such as ``http://127.0.0.1:8080``.
        gallery: the folder of the page's pictures. One file has the name `HTML_NAME`, and ``link.png`` is a symbolic
            link to a file outside the folder.
        ids: the ID of each picture in the collection, by file name.
    """

    url: str
    gallery: Path
    ids: dict[str, str]

    @property
    def host(self) -> str:
        """The host and the port of the page, ``host:port``."""
        return self.url.removeprefix("http://")


@contextmanager
def served_page(
    root: Path, server_url: str, *, page_url: str = "", options: Sequence[str] = (), settings: Mapping[str, str] = {}
) -> Iterator[Page]:
    """Index the demo's pictures and serve the page in a process of its own, which must end without a traceback.

    Args:
        root: an empty folder for the pictures and the collection.
        server_url: the gRPC endpoint of a server with the demo's checkpoint, which embeds the pictures.
        page_url: the gRPC endpoint that the page uses; empty: `server_url`.
        options: further options of `tuwen web`.
        settings: further environment variables of `tuwen web`.
    """
    gallery = _write_gallery(root)
    store = str(root / "search.db")
    tuwen("index", str(gallery / "goods.jsonl"), "--into", "gallery", "--store", store, "--url", server_url)
    with Client(server_url) as clip, Collection.open("gallery", clip, store=store) as pictures:
        ids = {Path(hit.picture.name).name: hit.picture.id for hit in pictures.search("图片", limit=200).hits}
    port = str(ServerOptions.on_free_ports().with_ports_resolved().http_port)
    command = [TUWEN, "web", "gallery", "--store", store, "--url", page_url or server_url, "--port", port]
    command += ["--pictures", str(gallery), "--upload-mib", "1", "--example", "企鹅", *options]
    pipe, environment = subprocess.PIPE, {**os.environ, **settings}
    with started(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        assert process.stdout is not None
        assert "gallery: 142 pictures" in process.stdout.readline()
        page = Page(f"http://127.0.0.1:{port}", gallery, ids)
        wait_until(lambda: answers(page.url), running=process)
        yield page
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors


def get(url: str) -> tuple[int, dict[str, str], bytes]:
    """Return the status, headers and body of a response to GET, even if the status is an error."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status, dict(response.headers.items()), response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers.items()), error.read()


def _write_gallery(root: Path) -> Path:
    folder = root / "gallery"
    shutil.copytree(ROOT / "build" / "demo" / "gallery", folder)
    shutil.copy(folder / "猫头鹰.png", root / "secret.png")
    (folder / "link.png").symlink_to(root / "secret.png")
    shutil.move(folder / "足球.png", folder / HTML_NAME)
    with (folder / "goods.jsonl").open("w", encoding="utf-8") as table:
        for number, path in enumerate(sorted(folder.glob("*.png"))):
            goods = {"path": path.name, "类别": CATEGORIES[number % 3], "price": number / 2}
            print(json.dumps(goods, ensure_ascii=False), file=table)
    return folder


def answers(url: str) -> bool:
    """Return whether a server listens at the address. Fail if its first response is not yet the page."""
    try:
        status, _, _ = get(url)
    except urllib.error.URLError:
        return False
    assert status == 200
    return True
