"""Images are fetched only from hosts that the operator allows. A host name of a private address is never fetched."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx
import pytest

from tests.support.edge import edge_in_a_thread, png


class Site(BaseHTTPRequestHandler):
    """A web server with one picture, which redirects every other path."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        Site.asked.append(self.path)
        if self.path == "/picture.png":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(png())
            return
        self.send_response(302)
        self.send_header("Location", self.path.removeprefix("/to/"))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    """Yield the host and port of a web server on the loopback, which counts as a private network."""
    Site.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def reason(edge: str, url: str) -> str:
    """Return the reason why the edge refuses an image at an address; empty if the image is embedded."""
    answer = httpx.post(f"{edge}/v1/embeddings", json={"input": {"image": url}}, timeout=30)
    if answer.status_code == 200:
        return ""
    [item] = answer.json()["error"]["items"]
    assert (answer.status_code, item["reason"]) == (422, "not_fetched")
    return str(item["message"])


def test_fetches_from_an_address_that_the_operator_names(site: str) -> None:
    with edge_in_a_thread(fetch_hosts=(site,)) as edge:
        assert reason(edge, f"http://{site}/picture.png") == ""
        assert reason(edge, f"http://{site}/to//picture.png") == ""


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:1/x.png",
        "http://[::1]/x.png",
        "http://0x7f000001/x.png",
        "http://user:pass@169.254.169.254/",
        "https://example.com/x.png",
    ],
)
def test_fetches_from_no_other_host_and_follows_no_redirect_to_one(site: str, target: str) -> None:
    with edge_in_a_thread(fetch_hosts=(site,)) as edge:
        assert "is not among the allowed hosts" in reason(edge, target)
        assert "is not among the allowed hosts" in reason(edge, f"http://{site}/to/{target}")


@pytest.mark.parametrize("scheme", ["file", "ftp", "gopher"])
def test_a_redirect_to_another_scheme_is_refused(site: str, scheme: str) -> None:
    with edge_in_a_thread(fetch_hosts=(site,)) as edge:
        assert "expected http://host/" in reason(edge, f"http://{site}/to/{scheme}://{site}/x")


def test_a_name_of_a_private_address_is_refused_although_it_is_allowed(site: str) -> None:
    name = f"localhost:{site.rpartition(':')[2]}"
    with edge_in_a_thread(fetch_hosts=(site, name)) as edge:
        assert "private network" in reason(edge, f"http://{name}/picture.png")
        assert Site.asked == []
        assert "private network" in reason(edge, f"http://{site}/to/http://{name}/picture.png")
