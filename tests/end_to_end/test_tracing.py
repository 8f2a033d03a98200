"""One trace from the application to the encoder: the SDK's span and the server's, at an OTLP receiver."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.command import TUWEN
from tuwen import AsyncClient, Client, InvalidItemsError
from tuwen_build.traffic import photographs


class Receiver:
    """Takes OTLP over HTTP, as a collector does."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                document = json.loads(self.rfile.read(int(self.headers["content-length"])))
                for resource in document["resourceSpans"]:
                    receiver.spans += [span for scope in resource["scopeSpans"] for span in scope["spans"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, count: int, name: str) -> None:
        """Until so many spans of that name have come: a request's own is sent after those within it."""
        deadline = time.monotonic() + 60
        while sum(span["name"] == name for span in self.spans) < count:
            assert time.monotonic() < deadline, [span["name"] for span in self.spans]
            time.sleep(0.1)

    def chain(self, trace_id: str, name: str) -> list[str]:
        """The names from a span up to the first that is not the server's, and the ID of that one."""
        spans = {span["spanId"]: span for span in self.spans if span["traceId"] == trace_id}
        [found] = [span for span in spans.values() if span["name"] == name]
        names = []
        while found is not None:
            names.append(found["name"])
            parent = found.get("parentSpanId", "")
            found = spans.get(parent)
        return [*names, parent]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture(scope="module")
def exported() -> InMemorySpanExporter:
    """The application's own spans."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def test_calls_of_both_clients_are_one_trace_each(
    repository: Path, receiver: Receiver, exported: InMemorySpanExporter
) -> None:
    command = [TUWEN, "serve", str(repository), "--json", "--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"]
    # The rate is for callers that trace nothing, who are not to be traced here.
    settings = ("mode=opentelemetry", "level=TIMESTAMPS", "rate=1000000", f"opentelemetry,url={receiver.url}")
    settings += ("opentelemetry,bsp_schedule_delay=200",)  # milliseconds
    command += ["--", *(f"--trace-config={setting}" for setting in settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["grpc"]
        with Client(url) as untraced:
            for _ in range(3):
                untraced.embed_texts(["一只猫"])
        with Client(url, tracing=True) as clip:
            clip.embed_texts(["一只狗"])
            clip.embed_images(photographs(1))
            with pytest.raises(InvalidItemsError):
                clip.embed_images([b"no image"])

        async def embed() -> None:
            async with AsyncClient(url, tracing=True) as clip:
                await clip.embed_texts(["一匹马"])

        tracer = trace.get_tracer("the application")
        with tracer.start_as_current_span("search"):
            asyncio.run(embed())
        with Client(url, tracing=True) as clip, tracer.start_as_current_span("index"):
            assert all(outcome.ok for outcome in clip.stream_texts(["一只鸟"]))
        # A span ends after its answer has left, and one that ends while the server stops may not be sent.
        receiver.wait_for(5, "InferRequest")
        process.terminate()
        assert process.wait(60) == 0

    own = [span for span in exported.get_finished_spans() if span.context is not None]
    ids = {span.name: f"{span.context.span_id:016x}" for span in own if span.context}
    traces = {span.name: f"{span.context.trace_id:032x}" for span in own if span.context}
    assert [span.name for span in own if span.name != "tuwen.read_card"] == [
        "tuwen.embed",
        "tuwen.embed",
        "tuwen.embed",
        "tuwen.embed",
        "search",
        "index",
    ]
    text, image, refused, asynchronous = (span for span in own if span.name == "tuwen.embed")
    for span, kind, step in (
        (text, "text", "text_encoder"),
        (image, "image", "vision_encoder"),
        (asynchronous, "text", "text_encoder"),
    ):
        assert span.context is not None
        found = receiver.chain(f"{span.context.trace_id:032x}", step)
        assert found == [step, f"{kind}_embedding", "InferRequest", f"{span.context.span_id:016x}"]
        assert span.status.is_ok or span.status.is_unset
    assert not refused.status.is_ok
    assert [event.name for event in refused.events] == ["exception"]
    assert asynchronous.context is not None
    assert f"{asynchronous.context.trace_id:032x}" == traces["search"]
    assert receiver.chain(traces["index"], "text_encoder")[-1] == ids["index"]
    traced = {f"{span.context.trace_id:032x}" for span in own if span.context and span.name != "tuwen.read_card"}
    requests = {span["traceId"]: span for span in receiver.spans if span["name"] == "InferRequest"}
    assert requests.keys() == traced, requests  # and nobody else's


def test_without_opentelemetry_the_extra_is_named() -> None:
    program = "import sys; sys.modules['opentelemetry'] = None; import tuwen; tuwen.Client(tracing=True)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 'tuwen[tracing]'" in done.stderr
