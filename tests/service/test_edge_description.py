"""Tests of the HTTP edge's OpenAPI description: it is valid, and responses to generated requests follow it."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.api_checks import attack, check_description
from tests.support.edge import edge_in_a_thread, edge_process
from tests.support.servers import RecordedServer


def test_the_description_is_valid_openapi(tmp_path: Path) -> None:
    with edge_in_a_thread() as address:
        check_description(httpx.get(f"{address}/openapi.json", timeout=30).content, tmp_path)


def test_no_generated_request_breaks_the_description(server: RecordedServer, tmp_path: Path) -> None:
    with edge_process(server.grpc_url) as edge:
        assert attack(edge.address, tmp_path, cases=10, seed=1) > 300
        assert httpx.get(f"{edge.address}/health", timeout=30).status_code == 200
    assert not any('"level":"error"' in line for line in edge.lines)
