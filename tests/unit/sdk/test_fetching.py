"""Images at web addresses: only with a fetcher, only from its hosts, only so long and so large."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tests.support.blocking import Make
from tuwen import HttpFetcher, InvalidArgumentError
from tuwen._images import UnreadableItemError
from tuwen.testing import FakeTransport
from tuwen_build.samples import PHOTOGRAPHS, sample

PHOTO = sample(PHOTOGRAPHS[0]).read_bytes()
NEVER = 10_000.0  # seconds; longer than any test may take


class Server(ThreadingHTTPServer):
    """A web server in this process.

    Attributes:
        all_there: where requests for /together wait until eight of them have come.
        stopping: set when slow answers may end.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.all_there = threading.Barrier(8)
        self.stopping = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name, _, _ = self.path.partition("?")
        if name == "/photo.jpg":
            self.answer(200, PHOTO)
        elif name == "/moved":
            self.redirect("/photo.jpg")
        elif name == "/round":
            self.redirect("/round")
        elif name == "/elsewhere":
            self.redirect("http://169.254.169.254/latest/meta-data")
        elif name == "/file":
            self.redirect("file:///etc/passwd")
        elif name == "/says-huge":
            self.send_response(200)
            self.send_header("Content-Length", str(10**9))
            self.end_headers()
        elif name == "/endless":
            self.send_response(200)
            self.end_headers()
            self.drip(b"x" * 65536, pause=0)
        elif name == "/slow-body":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.drip(b"x", pause=0.05)
        elif name == "/slow-head":
            self.drip(b"H", pause=0.05)
        elif name == "/together":
            self.server.all_there.wait(60)
            self.answer(200, PHOTO)
        elif name == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(PHOTO)))
            self.end_headers()
            self.wfile.write(PHOTO[:1000])
        else:
            self.answer(404, b"")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def redirect(self, location: str) -> None:
        self.send_response(302)
        self.send_header("Location", location)
        self.end_headers()

    def drip(self, piece: bytes, pause: float) -> None:
        try:
            while not self.server.stopping.wait(pause):
                self.wfile.write(piece)
        except OSError:
            pass

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.stopping.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/photo.jpg", "/photo.jpg?size=3", "/moved"])
def test_an_image_of_an_allowed_host_is_fetched(host: str, path: str) -> None:
    assert HttpFetcher([host]).fetch(f"http://{host}{path}") == PHOTO


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/missing", "http://127.0.0.1: answered 404 Not Found"),
        ("/round", "more than 3 redirects"),
        ("/elsewhere", "http://169.254.169.254: this host is not among those"),
        ("/file", "not an http or https address"),
        ("/says-huge", "1000000000 bytes, the limit is 200000"),
        ("/endless", "more than the limit of 200000 bytes"),
        ("/cut", "the answer ended [0-9]+ bytes early"),
    ],
)
def test_whatever_else_is_an_unreadable_image(host: str, path: str, message: str) -> None:
    with pytest.raises(UnreadableItemError, match=message) as caught:
        HttpFetcher([host], max_bytes=200_000).fetch(f"http://{host}{path}")
    assert caught.value.reason == "not_fetched"


@pytest.mark.parametrize("path", ["/slow-body", "/slow-head"])
@pytest.mark.parametrize(("timeout", "left"), [(0.1, None), (0.1, NEVER), (NEVER, 0.1)])
def test_a_server_that_drips_is_left_when_the_time_is_over(
    host: str, path: str, timeout: float, left: float | None
) -> None:
    with pytest.raises(UnreadableItemError, match="no answer in time"):
        HttpFetcher([host], timeout=timeout).fetch(f"http://{host}{path}", left)


@pytest.mark.parametrize(
    ("allow", "url", "allowed"),
    [
        ("img.example.com", "https://img.example.com/a.jpg", True),
        ("img.example.com", "https://IMG.example.com/a.jpg", True),
        ("img.example.com", "https://img.example.com.evil.org/a.jpg", False),
        ("img.example.com", "https://evil-img.example.com/a.jpg", False),
        ("img.example.com", "https://img.example.com@evil.org/a.jpg", False),
        ("img.example.com", "https://img.example.com:8443/a.jpg", False),
        ("img.example.com:8443", "https://img.example.com:8443/a.jpg", True),
        ("*.example.com", "https://a.b.example.com/a.jpg", True),
        ("*.example.com", "https://example.com/a.jpg", False),
        ("*.example.com", "https://evilexample.com/a.jpg", False),
        ("img.example.com", "http://127.0.0.1/a.jpg", False),
        ("img.example.com", "http://[::1]/a.jpg", False),
    ],
)
def test_hosts_are_allowed_by_name(allow: str, url: str, allowed: bool) -> None:
    fetcher = HttpFetcher([allow])
    if allowed:
        assert fetcher._allowed(url).hostname
    else:
        with pytest.raises(UnreadableItemError, match="not among those that the fetcher allows"):
            fetcher._allowed(url)


def test_a_secret_in_an_address_is_in_no_error(host: str) -> None:
    with pytest.raises(UnreadableItemError) as caught:
        HttpFetcher([host]).fetch(f"http://{host}/missing?key=hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("options", [{"allow": []}, {"allow": "host"}, {"allow": ["a"], "timeout": 0}])
def test_nonsense_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError):
        HttpFetcher(**options)  # type: ignore[arg-type]


def test_a_client_with_a_fetcher_takes_addresses(make: Make, host: str) -> None:
    urls = [f"http://{host}/photo.jpg", f"http://{host}/missing", "http://example.org/a.jpg"]
    with make(FakeTransport(), fetcher=HttpFetcher([host])) as clip:
        outcomes = clip.try_embed_images([*urls, PHOTO])
        streamed = list(clip.stream_images(iter(urls)))
    assert [outcome.error and outcome.error.reason for outcome in outcomes] == [None, *["not_fetched"] * 2, None]
    assert [outcome.key for outcome in streamed] == urls
    np.testing.assert_array_equal(outcomes[0].embedding, outcomes[3].embedding)


def test_the_time_of_a_call_bounds_its_fetches(make: Make, host: str) -> None:
    with make(FakeTransport(), fetcher=HttpFetcher([host], timeout=NEVER)) as clip:
        clip.model_card()  # which would take its share of the time
        (outcome,) = clip.try_embed_images([f"http://{host}/slow-body"], timeout=0.2)
    assert outcome.error.message == "http://127.0.0.1: no answer in time"


def test_addresses_are_fetched_side_by_side(make: Make, host: str) -> None:
    with make(FakeTransport(), fetcher=HttpFetcher([host], timeout=NEVER)) as clip:
        outcomes = clip.try_embed_images([f"http://{host}/together"] * 8)
    assert all(outcome.ok for outcome in outcomes)


def test_without_one_they_are_refused(make: Make) -> None:
    with make(FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match="image 0: nothing is fetched"):
        clip.embed_images(["https://img.example.com/a.jpg"])
