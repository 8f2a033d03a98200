"""`tuwen probe` accepts a server that computes, even if it is busy, and reports a server that hangs."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.support.command import tuwen
from tests.support.grpc_server import GrpcServer
from tuwen.model_names import STEPS
from tuwen_cli.health_probe import PROBES, NotAnsweredError, probe


class ScriptedWire:
    """A fake connection to a server whose models compute, wait in a queue, or hang.

    Args:
        refused: the names of ensembles that return no embedding.
        idle: the names of models that compute no batch.
        ready: whether the server says that it is ready.
    """

    def __init__(self, *, refused: tuple[str, ...] = (), idle: tuple[str, ...] = (), ready: bool = True) -> None:
        self.refused, self.idle, self.ready = refused, idle, ready
        self.asked: list[str] = []
        self.looks = 0

    def check_ready(self, timeout: float) -> None:
        if not self.ready:
            raise NotAnsweredError("the server is not ready")

    def infer(self, model: str, input_name: str, item: bytes, timeout: float) -> None:
        assert timeout > 0
        assert item
        self.asked.append(f"{model} {input_name}")
        if model in self.refused:
            raise NotAnsweredError("no answer within 2.0 s")

    def executions(self, timeout: float) -> dict[str, int]:
        self.looks += 1
        models = [model for kind in PROBES for model in (kind, *STEPS[kind])]
        named = [*models, *(f"b16_{model}" for model in models)]
        return {model: 7 if model in self.idle else self.looks for model in named}


def test_asks_for_a_text_and_an_image_of_each_model() -> None:
    wire = ScriptedWire()
    probe(wire, models=("", "b16"))
    assert wire.asked == [
        "text_embedding text",
        "image_embedding image",
        "b16_text_embedding text",
        "b16_image_embedding image",
    ]


def test_asks_every_model_of_the_server_by_default() -> None:
    wire = ScriptedWire()
    probe(wire)
    assert {asked.partition("_")[0] for asked in wire.asked} == {"text", "image", "b16"}


def test_a_model_that_computes_nothing_fails_the_probe() -> None:
    wire = ScriptedWire(refused=("image_embedding",), idle=("vision_encoder",))
    with pytest.raises(NotAnsweredError, match="vision_encoder computed nothing"):
        probe(wire)


def test_a_busy_server_passes() -> None:
    """A server passes although the probe's requests wait too long, as each model computes batches of other requests."""
    probe(ScriptedWire(refused=("image_embedding", "text_embedding")))


def test_a_server_that_does_not_tell_its_counters_fails_without_an_answer() -> None:
    class Silent(ScriptedWire):
        def executions(self, timeout: float) -> dict[str, int]:
            return {}

    with pytest.raises(NotAnsweredError, match="text_tokenization and text_encoder"):
        probe(Silent(refused=("text_embedding",)))


def test_a_server_that_is_not_ready_is_not_asked() -> None:
    wire = ScriptedWire(ready=False)
    with pytest.raises(NotAnsweredError, match="not ready"):
        probe(wire)
    assert wire.asked == []


def test_the_command_embeds_a_text_and_an_image() -> None:
    with GrpcServer() as server:
        assert tuwen("probe", server.url).stdout == f"{server.url} computes\n"
        assert [request.model for request in server.fake.requests] == ["text_embedding", "image_embedding"]


def test_the_command_fails_in_one_line_without_a_server() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{unused.getsockname()[1]}"
        failed = tuwen("probe", url, "--timeout", "0.5", code=1)
        assert f"{url} does not compute: " in failed.stderr
        assert len(failed.stderr.splitlines()) == 1


def test_the_command_fails_on_a_hanging_model() -> None:
    hung = threading.Event()
    with GrpcServer(before_answer=lambda: hung.wait(30)) as server:
        failed = tuwen("probe", server.url, "--timeout", "0.4", code=1)
        hung.set()
    assert "text_embedding returned no embedding (no answer within" in failed.stderr
