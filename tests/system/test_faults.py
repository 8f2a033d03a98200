"""The attacks of ``make test-faults`` in small: nothing may go wrong, and the server must stay well."""

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
from tests.faults.wire import attack_ports, attack_with_requests
from tests.support.servers import RecordedServer
from tuwen import Client
from tuwen_build.repository import build_repository
from tuwen_build.seeded import write_seeded_checkpoint
from tuwen_build.server import EmbeddedServer, ServerOptions

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


def test_hostile_items_between_good_ones(attacked: EmbeddedServer, repository: Path) -> None:
    check(attack_with_items(attacked, repository, hostile=3_000, good=600, seed=1))


def test_malformed_requests(attacked: EmbeddedServer) -> None:
    check(attack_with_requests(attacked, times=390, seed=1))


def test_more_than_it_can_do_and_for_a_while(attacked: EmbeddedServer) -> None:
    check(storm(attacked, seconds=8) + soak(attacked, seconds=15))


def test_what_breaks_beneath_mends_itself(repository: Path) -> None:
    some = {
        name: BREAKDOWNS[name]
        for name in (
            "the process of text_encoder killed",
            "connections that carry nothing ever again",
            "/dev/shm full, and batches that need more of it",
        )
    }
    check(attack_from_beneath(repository, times=1, breakdowns=some))


def test_a_repository_replaced_while_it_is_served(repository: Path, tmp_path: Path) -> None:
    checkpoint = write_seeded_checkpoint(tmp_path / "checkpoint", seed=1)
    build_repository(str(checkpoint), tmp_path / "other")
    check(attack_by_replacing(repository, tmp_path / "other", tmp_path))


def test_nobody_reads_the_wall_clock(attacked: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may jump: every deadline and pause of ours is by a clock that does not."""
    read = time.time

    def jump() -> float:
        reader = sys._getframe(1).f_globals["__name__"]
        assert not reader.startswith("tuwen"), reader
        return read()

    monkeypatch.setattr("time.time", jump)
    with Client(attacked.grpc_url) as clip:
        assert all(outcome.ok for outcome in clip.stream_texts(["一只猫"] * 100))
    assert attacked.trouble() is None


def test_noise_silence_and_slowness(attacked: EmbeddedServer) -> None:
    check(attack_ports(attacked, times=60, connections=300, seed=1))
