"""Images at web addresses. A client needs a fetcher, which limits the hosts, the time and the size."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.blocking import Make
from tuwen import AsyncClient, HttpFetcher, InvalidArgumentError, _http
from tuwen.failures import ItemError
from tuwen.testing import AsyncFakeTransport, FakeTransport
from tuwen_repository.samples import PHOTOGRAPHS, sample

PHOTO = sample(PHOTOGRAPHS[0]).read_bytes()
REDIRECTS = {
    "/moved": "/photo.jpg",
    "/leaky": "http://user:hunter2@[/hunter2",
    "/round": "/round",
    "/elsewhere": "http://169.254.169.254/latest/meta-data",
    "/file": "file:///etc/passwd",
}
NEVER = 10_000.0  # seconds; longer than any test may take


class Server(ThreadingHTTPServer):
    """A web server in this process. The path of a request selects a response, such as ``/slow-body``.

    Attributes:
        all_there: the barrier at which eight requests for ``/together`` wait for each other.
        stopping: the event that ends slow responses.
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
        if name in ("/photo.jpg", "/%E5%9B%BE%E7%89%87.jpg"):
            self.answer(200, PHOTO)
        elif name in REDIRECTS:
            self.redirect(REDIRECTS[name])
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
        ("/round", "expected at most 3 redirects, got more"),
        ("/elsewhere", "http://169.254.169.254: the host is not among the allowed hosts"),
        ("/file", "the web address is invalid; expected http://host/"),
        ("/says-huge", "the response has 1000000000 bytes, the limit is 200000"),
        ("/endless", "larger than the limit of 200000 bytes"),
        ("/cut", "the response ended after [0-9]+ of [0-9]+ bytes"),
    ],
)
def test_a_failed_fetch_is_refused_with_its_reason(host: str, path: str, message: str) -> None:
    with pytest.raises(ItemError, match=message) as caught:
        HttpFetcher([host], max_bytes=200_000).fetch(f"http://{host}{path}")
    assert caught.value.reason == "not_fetched"


@pytest.mark.parametrize("path", ["/slow-body", "/slow-head"])
@pytest.mark.parametrize(("timeout", "left"), [(0.1, None), (0.1, NEVER), (NEVER, 0.1)])
def test_a_slow_response_is_refused_after_the_timeout(host: str, path: str, timeout: float, left: float | None) -> None:
    with pytest.raises(ItemError, match="no response in time"):
        HttpFetcher([host], timeout=timeout).fetch(f"http://{host}{path}", left)


def allowed_by(fetcher: HttpFetcher, url: str) -> bool:
    parsed = httpx.URL(url)
    return fetcher.allows(parsed.scheme, parsed.raw_host.decode(), parsed.port)


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
        ("img.example.com", "http://img.example.com:80/a.jpg", True),
        ("img.example.com:443", "https://img.example.com/a.jpg", True),
        ("img.example.com", "https://img.example.com:80/a.jpg", False),
        ("*.example.com", "https://a.example.com:443/a.jpg", True),
        ("*.example.com:8443", "https://a.example.com:8443/a.jpg", True),
        ("img.example.com", "https://img.example.com./a.jpg", True),
        ("bücher.example", "https://bücher.example/a.jpg", True),
        ("[::1]:8080", "http://[::1]:8080/a.jpg", True),
        ("img.example.com", "http://127.0.0.1/a.jpg", False),
        ("img.example.com", "http://[::1]/a.jpg", False),
    ],
)
def test_hosts_are_allowed_by_name(allow: str, url: str, allowed: bool) -> None:
    fetcher = HttpFetcher([allow])
    if allowed:
        assert allowed_by(fetcher, url)
    else:
        assert not allowed_by(fetcher, url)


@pytest.mark.parametrize(
    "url",
    [
        "http://HOST/missing?key=hunter2",
        "http://HOST/a b.jpg?key=hunter2",
        "http://HOST/hunter2\n.jpg",
        "http://user:hunter2@HOST/missing",
        "http://user:hunter2@ex℀mple.com/x",
        "http://HOST:hunter2/x",
        "http://HOST/leaky",
    ],
)
def test_errors_do_not_show_secrets_of_an_address(host: str, url: str) -> None:
    with pytest.raises(ItemError) as caught:
        HttpFetcher([host]).fetch(url.replace("HOST", host))
    assert "hunter2" not in str(caught.value)


def test_a_path_with_chinese_characters_is_fetched(host: str) -> None:
    assert HttpFetcher([host]).fetch(f"http://{host}/图片.jpg") == PHOTO


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let every host name resolve to these addresses. Return the list to which resolved names are added."""
    asked: list[str] = []

    def look_up(name: str, *_: object, **__: object) -> list[Any]:
        asked.append(name)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(_http.socket, "getaddrinfo", look_up)
    return asked


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1%eth0"]
)
def test_a_name_with_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    resolving(monkeypatch, "8.8.8.8", address)
    with pytest.raises(ItemError, match="address in a private network"):
        HttpFetcher(["img.example.com"]).fetch("http://img.example.com/a.jpg")


def test_a_name_is_resolved_once_and_its_next_address_is_tried(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    asked = resolving(monkeypatch, "127.0.0.2", "127.0.0.1")  # no server listens at the first address
    port = host.rpartition(":")[2]
    fetcher = HttpFetcher([f"img.example.com:{port}"], private=True)
    assert fetcher.fetch(f"http://img.example.com:{port}/photo.jpg") == PHOTO
    assert asked == ["img.example.com"]


def test_a_host_lookup_that_hangs_is_refused_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()

    def look_up(*_: object, **__: object) -> list[Any]:
        never.wait()
        return []

    monkeypatch.setattr(_http.socket, "getaddrinfo", look_up)
    try:
        with pytest.raises(ItemError, match="http://img.example.com: no response in time"):
            HttpFetcher(["img.example.com"], timeout=0.05).fetch("http://img.example.com/a.jpg")
    finally:
        never.set()


def test_a_slow_host_is_a_refused_item_of_a_stream(make: Make, host: str) -> None:
    with make(FakeTransport(), fetcher=HttpFetcher([host], timeout=NEVER)) as clip:
        clip.model_card()
        outcomes = list(clip.stream_images([f"http://{host}/slow-body", PHOTO], timeout=0.2))
    assert [outcome.ok for outcome in outcomes] == [False, True]
    assert outcomes[0].error.message == "http://127.0.0.1: no response in time"


@pytest.mark.parametrize("options", [{"allow": []}, {"allow": "host"}, {"allow": ["a"], "timeout": 0}])
def test_invalid_settings_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError):
        HttpFetcher(**options)  # type: ignore[arg-type]


def test_a_client_with_a_fetcher_accepts_web_addresses(make: Make, host: str) -> None:
    urls = [f"http://{host}/photo.jpg", f"http://{host}/missing", "http://example.org/a.jpg"]
    with make(FakeTransport(), fetcher=HttpFetcher([host])) as clip:
        outcomes = clip.try_embed_images([*urls, PHOTO])
        streamed = list(clip.stream_images(iter(urls)))
    assert [outcome.error and outcome.error.reason for outcome in outcomes] == [None, *["not_fetched"] * 2, None]
    assert [outcome.key for outcome in streamed] == urls
    np.testing.assert_array_equal(outcomes[0].embedding, outcomes[3].embedding)


def test_the_timeout_of_a_call_limits_its_fetches(make: Make, host: str) -> None:
    with make(FakeTransport(), fetcher=HttpFetcher([host], timeout=NEVER)) as clip:
        clip.model_card()  # read before, so that it takes no part of the call's time
        (outcome,) = clip.try_embed_images([f"http://{host}/slow-body"], timeout=0.2)
    assert outcome.error.message == "http://127.0.0.1: no response in time"


def test_addresses_are_fetched_concurrently(make: Make, host: str) -> None:
    with make(FakeTransport(), fetcher=HttpFetcher([host], timeout=NEVER)) as clip:
        outcomes = clip.try_embed_images([f"http://{host}/together?{number}" for number in range(8)])
    assert all(outcome.ok for outcome in outcomes)


def test_web_addresses_without_a_fetcher_are_refused(make: Make) -> None:
    with make(FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match="image 0: web addresses need"):
        clip.embed_images(["https://img.example.com/a.jpg"])


def test_a_slow_host_blocks_no_thread_of_the_application(host: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        async with AsyncClient(transport=AsyncFakeTransport(), fetcher=HttpFetcher([host], timeout=NEVER)) as clip:
            await clip.model_card()
            call = asyncio.create_task(clip.try_embed_images([f"http://{host}/slow-body"], timeout=NEVER))
            await asyncio.sleep(0)
            await asyncio.to_thread(int)  # waits for ever if the fetch holds the only thread
            call.cancel()

    asyncio.run(main())


def test_a_name_that_idna_cannot_decode_is_refused_as_an_address() -> None:
    with pytest.raises(ItemError, match=r"^the web address is invalid; expected http://host/\.\.\. or https://host/"):
        HttpFetcher(["*.cdn.example.com"]).fetch("http://xn--fsq--.cdn.example.com/hunter2")
