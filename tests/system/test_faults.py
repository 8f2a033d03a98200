"""Run the attacks of ``make test-faults`` with fewer requests. No attack may find a fault."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults._outcome import Outcome, table
from tests.faults.breakdowns import BREAKDOWNS, attack_by_replacing, attack_from_beneath
from tests.faults.endurance import soak, storm
from tests.faults.items import attack_with_items
from tests.faults.mixed import attack_with_mixed_requests
from tests.faults.wire import attack_ports, attack_with_requests
from tests.support.repositories import Built
from tests.support.servers import RecordedServer
from tuwen import Client
from tuwen_server import EmbeddedServer, ServerOptions

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def attacked(repository: Path) -> Iterator[EmbeddedServer]:
    with RecordedServer(repository, ServerOptions.on_free_ports()) as running:
        yield running
        assert running.trouble() is None


def check(outcomes: list[Outcome]) -> None:
    print(table(outcomes))
    assert [f"{outcome.tried}: {wrong}" for outcome in outcomes for wrong in outcome.wrong] == []
    assert sum(outcome.times for outcome in outcomes) > 0


def test_hostile_items_do_not_affect_good_items(attacked: EmbeddedServer, repository: Path) -> None:
    check(attack_with_items(attacked, repository, hostile=3_000, good=600, seed=1))


def test_malformed_requests_are_refused(attacked: EmbeddedServer) -> None:
    check(attack_with_requests(attacked, times=390, seed=1))


def test_failing_requests_do_not_affect_other_requests(repository: Path, tmp_path: Path) -> None:
    """Requests that are made to fail do not change the answers to other requests in the same batches."""
    outcomes = attack_with_mixed_requests(repository, tmp_path, requests=2_000, seed=1, serve=RecordedServer)
    check(outcomes)
    assert any(outcome.tried.endswith("encoder error") for outcome in outcomes)


def test_the_servers_memory_does_not_grow_under_overload_or_in_a_soak(attacked: EmbeddedServer) -> None:
    check(storm(attacked, seconds=8) + soak(attacked, seconds=15))


@pytest.mark.provokes_trouble
def test_streams_survive_breakdowns_of_server_and_network(repository: Path) -> None:
    some = {
        name: BREAKDOWNS[name]
        for name in (
            "the process of text_encoder killed",
            "connections that drop all data for ever",
            "/dev/shm full, and large batches",
        )
    }
    check(attack_from_beneath(repository, times=1, breakdowns=some))


@pytest.mark.provokes_trouble
def test_no_answer_mixes_two_models_when_a_served_repository_is_replaced(
    repository: Path, built: Built, tmp_path: Path
) -> None:
    check(attack_by_replacing(repository, built(seed=1), tmp_path))


def test_the_wall_clock_is_read_only_for_the_send_time_of_requests(
    attacked: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK and the server's supervision measure every deadline and pause with a monotonic clock.

    The wall clock may jump. The SDK reads it only for the parameter `sent_at` of a request.
    """
    read = time.time

    def jump() -> float:
        frame = sys._getframe(1)
        reader = frame.f_globals["__name__"]
        if reader == "tuwen.clock" and frame.f_back is not None:
            assert frame.f_back.f_code.co_name == "encode_request"
        else:
            assert not reader.startswith("tuwen"), reader
        return read()

    monkeypatch.setattr("time.time", jump)
    with Client(attacked.grpc_url) as clip:
        assert all(outcome.ok for outcome in clip.stream_texts(["一只猫"] * 100))
    assert attacked.trouble() is None


def test_random_bytes_and_idle_connections_do_not_affect_good_requests(attacked: EmbeddedServer) -> None:
    check(attack_ports(attacked, times=60, connections=300, seed=1))
