"""Tests of tracing: an application's spans and the server's spans of a call form one trace."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support.servers import RecordedServer
from tuwen import AsyncClient, Client, InvalidItemsError
from tuwen_server import ServerOptions
from tuwen_server.traffic import photographs


class Receiver:
    """A fake OpenTelemetry collector, which receives the server's spans as OTLP over HTTP.

    Attributes:
        spans: the received spans, in OTLP's JSON format.
        server: the HTTP server.
        url: the address to which the server sends its spans.
    """

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self._more = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                document = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with receiver._more:
                    for resource in document["resourceSpans"]:
                        receiver.spans += [span for scope in resource["scopeSpans"] for span in scope["spans"]]
                    receiver._more.notify_all()
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def traces(self) -> set[str]:
        """Return the IDs of complete traces. The span ``InferRequest`` of a trace arrives after its descendants."""
        return {span["traceId"] for span in self.spans if span["name"] == "InferRequest"}

    def has(self, trace_id: str) -> bool:
        """Wait up to 10 seconds until a trace is complete, and return whether it is."""
        with self._more:
            return self._more.wait_for(lambda: trace_id in self.traces(), timeout=10)

    def chain(self, trace_id: str, name: str) -> list[str]:
        """Return the names of a server's span and of its ancestors in the server, then the ID of the client's span."""
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
    """Set up tracing in this process, and return the exporter that stores the finished spans of the application."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


class Application:
    """An application that traces its calls of the server.

    Attributes:
        traces: the IDs of the traces of all calls, including repeated calls.
    """

    def __init__(self, exporter: InMemorySpanExporter, receiver: Receiver) -> None:
        self._exporter = exporter
        self._receiver = receiver
        self.traces: set[str] = set()

    def traced(self, call: Callable[[], object]) -> tuple[str, dict[str, ReadableSpan]]:
        """Make a call, and return the ID of its trace and the application's spans by their names.

        Triton 2.51 loses about one trace in a hundred, because it reads beyond the end of the trace header. The gRPC
        example of opentelemetry-cpp had the same fault before its pull request 3304. A call whose trace is lost is
        repeated up to four times.
        """
        for _ in range(5):
            self._exporter.clear()
            call()
            spans = {span.name: span for span in self._exporter.get_finished_spans() if span.name != "tuwen.read_card"}
            [trace_id] = {f"{span.context.trace_id:032x}" for span in spans.values()}
            self.traces.add(trace_id)
            if self._receiver.has(trace_id):
                return trace_id, spans
        pytest.fail(
            f"the server sent no trace of {call} in five attempts; it sent {len(self._receiver.spans)} other spans"
        )


@pytest.fixture
def application(exported: InMemorySpanExporter, receiver: Receiver) -> Application:
    return Application(exported, receiver)


def test_a_call_of_both_clients_is_one_trace_from_application_to_encoder(
    repository: Path, receiver: Receiver, application: Application
) -> None:
    # Of calls without a trace header, Triton traces one in a million, so none in this test.
    settings = ("mode=opentelemetry", "level=TIMESTAMPS", "rate=1000000", f"opentelemetry,url={receiver.url}")
    settings += ("opentelemetry,bsp_schedule_delay=200",)  # milliseconds
    arguments = tuple(f"--trace-config={setting}" for setting in settings)
    tracer = trace.get_tracer("the application")
    with RecordedServer(repository, replace(ServerOptions.on_free_ports(), arguments=arguments)) as server:
        url = server.grpc_url
        with Client(url) as untraced:
            for _ in range(3):
                untraced.embed_texts(["一只猫"])

        async def embed() -> None:
            async with AsyncClient(url, tracing=True) as clip:
                await clip.embed_texts(["一匹马"])

        def search() -> None:
            with tracer.start_as_current_span("search"):
                asyncio.run(embed())

        with Client(url, tracing=True) as clip:

            def refused() -> None:
                with pytest.raises(InvalidItemsError):
                    clip.embed_images([b"no image"])

            def index() -> None:
                with tracer.start_as_current_span("index"):
                    assert all(outcome.ok for outcome in clip.stream_texts(["一只鸟"]))

            for kind, step, call in (
                ("text", "text_encoder", lambda: clip.embed_texts(["一只狗"])),
                ("image", "vision_encoder", lambda: clip.embed_images(photographs(1))),
                ("text", "text_encoder", search),
            ):
                trace_id, spans = application.traced(call)
                span = spans["tuwen.embed"]
                assert receiver.chain(trace_id, step) == [
                    *(step, f"{kind}_embedding", "InferRequest"),
                    f"{span.context.span_id:016x}",
                ]
                assert span.status.is_ok or span.status.is_unset
            assert spans.keys() == {"tuwen.embed", "search"}

            trace_id, spans = application.traced(refused)
            assert not spans["tuwen.embed"].status.is_ok
            assert [event.name for event in spans["tuwen.embed"].events] == ["exception"]

            trace_id, spans = application.traced(index)
            assert spans.keys() == {"index"}
            assert receiver.chain(trace_id, "text_encoder")[-1] == f"{spans['index'].context.span_id:016x}"
    assert receiver.traces() <= application.traces  # calls without a trace header have no trace


def test_names_the_missing_tracing_extra() -> None:
    program = "import sys; sys.modules['opentelemetry'] = None; import tuwen; tuwen.Client(tracing=True)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 'tuwen[tracing]'" in done.stderr
