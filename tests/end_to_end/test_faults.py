"""The attacks of ``make test-faults`` in small: nothing may go wrong, and the server must stay well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults._outcome import Outcome, table
from tests.faults.items import attack_with_items
from tests.faults.wire import attack_ports, attack_with_requests
from tuwen_build.server import EmbeddedServer, ServerOptions


@pytest.fixture(scope="module")
def attacked(repository: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(repository, ServerOptions.on_free_ports()) as running:
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


def test_noise_silence_and_slowness(attacked: EmbeddedServer) -> None:
    check(attack_ports(attacked, times=60, connections=300, seed=1))
