"""A test of every operation of the HTTP edge with thousands of generated requests."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.support.api_checks import attack
from tests.support.edge import edge_process
from tests.support.servers import RecordedServer


@pytest.mark.timeout(2400)
def test_responses_to_5000_generated_requests_follow_the_description(server: RecordedServer, tmp_path: Path) -> None:
    with edge_process(server.grpc_url, "--no-access-log") as edge:
        assert attack(edge.address, tmp_path, cases=420, seed=3) >= 5000
        assert httpx.get(f"{edge.address}/health", timeout=30).status_code == 200
    assert not any('"level":"error"' in line for line in edge.lines)
