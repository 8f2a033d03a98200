"""Tests of the search page's HTTP responses.

`tests/system/test_web_in_a_browser.py` tests the page in a browser.
"""

from __future__ import annotations

import http.client
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.artefacts import Artefacts
from tests.support.command import tuwen
from tests.support.repositories import demo_repository
from tests.support.servers import SharedServers
from tests.support.web_page import HTML_NAME, Page, get, served_page


@pytest.fixture(scope="module")
def page(servers: SharedServers, artefacts: Artefacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    server = servers.on(demo_repository(artefacts))
    with served_page(tmp_path_factory.mktemp("web"), server.grpc_url) as served:
        yield served


def test_shows_full_pictures_only_from_the_given_folder(page: Page) -> None:
    status, headers, body = get(f"{page.url}/pictures/{page.ids['企鹅.png']}")
    assert (status, headers["content-type"]) == (200, "image/png")
    assert headers["x-content-type-options"] == "nosniff"
    assert body == (page.gallery / "企鹅.png").read_bytes()
    # link.png is a link to a file outside the folder. Only its thumbnail is shown, which was made during indexing.
    status, headers, body = get(f"{page.url}/pictures/{page.ids['link.png']}")
    assert (status, headers["content-type"]) == (200, "image/webp")
    assert body != (page.gallery.parent / "secret.png").read_bytes()


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
def test_responds_404_to_ids_that_are_not_pictures(page: Page, path: str) -> None:
    connection = http.client.HTTPConnection(page.host, timeout=30)
    connection.request("GET", f"/pictures/{urllib.parse.quote(path, safe='%./')}")
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.status == 404
    assert b"root:" not in body


def test_refuses_a_large_upload_before_reading_it(page: Page) -> None:
    for headers in ({"Content-Length": str(5 << 20)}, {"Transfer-Encoding": "chunked"}, {"Content-Length": "-1"}):
        connection = http.client.HTTPConnection(page.host, timeout=30)
        connection.putrequest("POST", "/uploads")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        assert connection.getresponse().status in (400, 413)
        connection.close()


def test_a_query_is_never_html(page: Page) -> None:
    status, headers, body = get(f"{page.url}/?q={urllib.parse.quote('</script><script>alert(1)</script>')}")
    assert status == 200
    assert b"<script>alert(1)" not in body
    assert HTML_NAME.encode() not in body
    assert "default-src 'none'" in headers["content-security-policy"]


def test_speaks_two_languages_and_ignores_an_unknown_one(page: Page) -> None:
    assert "图文搜索".encode() in get(page.url)[2]
    assert b"Picture search" in get(f"{page.url}/?language=en")[2]
    assert get(f"{page.url}/?language=<b>")[0] == 200


def test_wrong_arguments_print_one_line(tmp_path: Path) -> None:
    assert "'--language'" in tuwen("web", "x", "--language", "fr", code=2).stderr
    assert "expected a folder" in tuwen("web", "x", "--pictures", str(tmp_path / "x"), code=1).stderr
    assert "UNAVAILABLE" in tuwen("web", "x", "--url", "127.0.0.1:1", "--timeout", "1", code=1).stderr
