"""`tuwen doctor` examines the HTTP API and the metrics of a server, as a caller without the key sees them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tuwen_cli.facts import HttpFacts, TextCache
from tuwen_cli.ports import examine_http, examine_text_cache

INFER = "/v2/models/b16_text_embedding/infer"
RESTRICTED = {"/v2/health/ready": 200}
Serve = Callable[[Mapping[str, "int | str"]], int]


class Handler(BaseHTTPRequestHandler):
    """A fake HTTP API.

    For a path in `answers`, the API sends the given status, or status 200 and the given page.
    For any other path, the API sends status 403.
    """

    answers: Mapping[str, int | str]

    def do_GET(self) -> None:
        answer = self.answers.get(self.path, 403)
        page = answer.encode() if isinstance(answer, str) else b""
        self.send_response(200 if page else int(answer))
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def do_POST(self) -> None:
        assert self.rfile.read(int(self.headers["Content-Length"])) == b"{}"
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Yield a function that starts an HTTP server with the given answers, and returns its port."""
    running = []

    def start(answers: Mapping[str, int | str]) -> int:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (Handler,), {"answers": answers}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return int(server.server_address[1])

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def http_of(port: int) -> HttpFacts | None:
    return examine_http("127.0.0.1", port, "b16_text_embedding", 5.0)


def test_a_restricted_api_answers_health_checks_alone(serve: Serve) -> None:
    port = serve(RESTRICTED)
    assert http_of(port) == HttpFacts(port, is_open=True)


@pytest.mark.parametrize("status", [400, 500])
def test_inference_and_control_without_a_key_are_found(serve: Serve, status: int) -> None:
    port = serve({**RESTRICTED, INFER: status, "/v2/repository/index": 200, "/v2/logging": 200})
    found = HttpFacts(port, is_open=True, inference=True, open_protocols=("model-repository", "logging"))
    assert http_of(port) == found


def test_a_server_that_is_not_ready_is_examined_too(serve: Serve) -> None:
    port = serve({"/v2/health/ready": 400})
    assert http_of(port) == HttpFacts(port, is_open=True)


def test_a_closed_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert http_of(port) == HttpFacts(port, is_open=False)


def test_another_service_on_the_port_is_not_judged(serve: Serve) -> None:
    assert http_of(serve({"/v2/health/ready": 404})) is None


def test_the_hits_and_misses_of_the_cache_are_read(serve: Serve) -> None:
    page = (
        "# TYPE tuwen_text_cache_hits_total counter\n"
        "tuwen_text_cache_hits_total 40\n"
        'tuwen_text_cache_misses_total{pod="a"} 1e+01\n'
        "tuwen_texts_truncated_total 7\n"
    )
    assert examine_text_cache("127.0.0.1", serve({"/metrics": page}), 5.0) == TextCache(40, 10)


@pytest.mark.parametrize("page", [404, "nv_inference_count 1\n"], ids=["no metrics", "no cache"])
def test_metrics_without_a_cache_give_no_counters(serve: Serve, page: int | str) -> None:
    assert examine_text_cache("127.0.0.1", serve({"/metrics": page}), 5.0) is None


def test_an_answer_that_never_ends_is_given_up_at_the_deadline() -> None:
    """The deadline limits the whole response, even if a server sends ten bytes a second without an end."""

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            try:
                while True:
                    connection.sendall(b"a")
                    time.sleep(0.1)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        assert examine_text_cache("127.0.0.1", listener.getsockname()[1], 0.5) is None
        thread.join(10)
        assert not thread.is_alive()
