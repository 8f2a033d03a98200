"""A small part of the attacks of ``make test-faults``: nothing goes wrong, and the server stays well."""

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


def test_hostile_items_do_not_harm_good_ones(attacked: EmbeddedServer, repository: Path) -> None:
    check(attack_with_items(attacked, repository, hostile=3_000, good=600, seed=1))


def test_malformed_requests_are_refused(attacked: EmbeddedServer) -> None:
    check(attack_with_requests(attacked, times=390, seed=1))


def test_failing_requests_harm_no_others(repository: Path, tmp_path: Path) -> None:
    """Requests with induced failures run into the same batches as good ones."""
    outcomes = attack_with_mixed_requests(repository, tmp_path, requests=2_000, seed=1, serve=RecordedServer)
    check(outcomes)
    assert any(outcome.tried.endswith("encoder error") for outcome in outcomes)


def test_neither_a_storm_nor_a_soak_makes_the_server_grow(attacked: EmbeddedServer) -> None:
    check(storm(attacked, seconds=8) + soak(attacked, seconds=15))


@pytest.mark.provokes_trouble
def test_streams_survive_breakdowns_beneath_them(repository: Path) -> None:
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
def test_a_served_repository_may_be_replaced(repository: Path, built: Built, tmp_path: Path) -> None:
    check(attack_by_replacing(repository, built(seed=1), tmp_path))


def test_nobody_reads_the_wall_clock(attacked: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock may jump, so every deadline and pause is measured by a monotonic clock."""
    read = time.time

    def jump() -> float:
        reader = sys._getframe(1).f_globals["__name__"]
        assert not reader.startswith("tuwen"), reader
        return read()

    monkeypatch.setattr("time.time", jump)
    with Client(attacked.grpc_url) as clip:
        assert all(outcome.ok for outcome in clip.stream_texts(["一只猫"] * 100))
    assert attacked.trouble() is None


def test_noise_and_silent_connections_do_not_harm_good_requests(attacked: EmbeddedServer) -> None:
    check(attack_ports(attacked, times=60, connections=300, seed=1))
