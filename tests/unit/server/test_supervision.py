"""Faults of a running server are noticed and named, and end with a restart. The tests use a fake tritonserver."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from threading import Thread

import pytest

from tests.support.command import wait_until
from tests.support.stand_in import HurriedClock, StandIn, group_members, segments
from tuwen_server import EmbeddedServer, supervise
from tuwen_server._local_http import answers
from tuwen_server.errors import ServeError

MakeServer = Callable[..., EmbeddedServer]


def supervised(server: EmbeddedServer, clock: HurriedClock, restarts: int = 5) -> list[str]:
    """Supervise a server until it is ready again, and return the messages."""
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "ready again" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supervise(server, restarts=restarts, say=say, clock=clock)
    return said


def state_of(pid: int) -> str:
    """Return the letter of a process's state, such as ``T`` for a stopped process."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def test_a_healthy_server_has_no_fault(make_server: MakeServer, clock: HurriedClock) -> None:
    server = make_server()
    assert server.trouble() is None  # before it is started
    server.start()
    for _ in range(3):
        clock.time += 60
        assert server.trouble() is None
    server.stop()
    assert server.trouble() is None


@pytest.mark.parametrize("model", ["text_tokenization", "text_encoder"])
def test_a_model_whose_process_died_is_started_again(
    make_server: MakeServer, stand_in: StandIn, clock: HurriedClock, model: str
) -> None:
    stand_in.behave(segments=1)
    server = make_server()
    server.start()
    stand_in.behave(starts=[{"lose": f"{model}_0_0"}])
    urls = server.grpc_url, server.http_url, server.metrics_url
    said = supervised(server, clock)
    assert said[0].startswith(f"the Python process of {model} died")
    assert said[0].endswith("starting again")
    assert (server.grpc_url, server.http_url, server.metrics_url) == urls
    assert server.trouble() is None
    assert group_members(stand_in.pids()[0]) == []
    assert segments(stand_in.starts()[0]) == []
    assert stand_in.events() == ["started", "started"]  # the unhealthy server is killed at once


def test_a_model_whose_process_is_stopped_is_started_again(make_server: MakeServer, clock: HurriedClock) -> None:
    server = make_server()
    server.start()
    [stub, *_] = [int(child) for child in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()]
    os.kill(stub, signal.SIGSTOP)
    wait_until(lambda: state_of(stub) == "T")
    assert server.trouble() is None  # a debugger may look at it for a moment
    os.kill(stub, signal.SIGCONT)
    wait_until(lambda: state_of(stub) != "T")
    clock.time += 120
    assert server.trouble() is None
    os.kill(stub, signal.SIGSTOP)
    wait_until(lambda: state_of(stub) == "T")
    assert server.trouble() is None
    clock.time += 120
    assert "has been stopped for" in str(server.trouble())
    said = supervised(server, clock)
    assert "has been stopped for" in said[0]
    assert server.trouble() is None


def test_a_reloaded_model_is_healthy_until_its_new_process_dies(
    make_server: MakeServer, stand_in: StandIn, clock: HurriedClock
) -> None:
    server = make_server()
    server.start()
    stand_in.behave(replace="text_encoder_0_0")
    wait_until(lambda: "replaced" in stand_in.events())
    for _ in range(3):
        assert server.trouble() is None
        clock.time += 6
    stand_in.behave(lose="text_encoder_0_0_anew_0_0")
    wait_until(lambda: (clock.pause(2), server.trouble())[1] is not None)
    assert "the Python process of text_encoder_0_0_anew died" in str(server.trouble())


def test_a_fault_is_reported_with_the_errors_of_the_log(make_server: MakeServer, stand_in: StandIn) -> None:
    stand_in.behave(log=["E0101 01:02:03.000 17 stub.cc:1] out of memory"])
    server = make_server()
    server.start()
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: server.poll() is not None)
    assert server.trouble() == "tritonserver ended by itself with code -9:\nout of memory"


def test_a_server_that_dies_too_often_is_given_up(
    make_server: MakeServer, stand_in: StandIn, clock: HurriedClock
) -> None:
    server = make_server()
    server.start()
    said: list[str] = []

    def kill_each_server() -> None:
        if server.poll() is None and server.trouble() is None:
            os.kill(server.pid, signal.SIGKILL)
            wait_until(lambda: server.poll() is not None)

    def say(line: str) -> None:
        said.append(line)
        if "ready again" in line:
            kill_each_server()

    kill_each_server()
    with pytest.raises(ServeError) as caught:
        supervise(server, restarts=2, say=say, clock=clock)
    assert "tritonserver ended by itself with code -9" in str(caught.value)
    assert "(2 restarts within ten minutes did not help)" in str(caught.value)
    assert len(stand_in.starts()) == 3


def test_a_server_that_does_not_answer_is_started_again(
    make_server: MakeServer, stand_in: StandIn, clock: HurriedClock
) -> None:
    server = make_server(silence=30)
    server.start()
    stand_in.behave(starts=[{"answers": False}])
    before = clock.time
    said = supervised(server, clock)
    assert said[0].startswith("tritonserver has not answered for")
    assert clock.time - before >= 30
    assert len(stand_in.starts()) == 2
    assert answers(f"{server.http_url}/v2/health/ready")


def test_a_server_that_answers_again_in_time_is_left_alone(
    make_server: MakeServer, stand_in: StandIn, clock: HurriedClock
) -> None:
    server = make_server(silence=30)
    server.start()
    address = f"{server.http_url}/v2/health/ready"
    for _ in range(3):
        stand_in.behave(answers=False)
        wait_until(lambda: not answers(address))
        clock.time += 20
        assert server.trouble() is None
        stand_in.behave(answers=True)
        wait_until(lambda: answers(address))
        clock.time += 20
        assert server.trouble() is None


def test_a_server_is_asked_at_most_every_five_seconds(
    make_server: MakeServer, clock: HurriedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server()
    server.start()
    asked: list[float] = []
    monkeypatch.setattr("tuwen_server._watch.answers", lambda _: asked.append(clock.time) or True)
    start = clock.time
    for tenth in range(1, 301):
        clock.time = start + tenth / 10
        assert server.trouble() is None
    assert 5 <= len(asked) <= 6
    assert all(later - earlier >= 5 - 1e-6 for earlier, later in pairwise(asked))


class TestAnswers:
    def test_a_port_without_a_listener_does_not_answer(self) -> None:
        assert not answers("http://127.0.0.1:1/v2/health/ready")

    def test_a_server_that_takes_connections_and_is_silent_does_not_answer(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.05)

    def test_a_server_that_does_not_speak_http_does_not_answer(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def greet() -> None:
                with listener.accept()[0] as connection:
                    connection.recv(1000)
                    connection.sendall(b"220 mail.example.com ESMTP\r\n")

            thread = Thread(target=greet)
            thread.start()
            assert not answers(f"http://127.0.0.1:{listener.getsockname()[1]}/")
            thread.join()
