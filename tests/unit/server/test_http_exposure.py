"""HTTP of the embedded server answers health checks on loopback alone, unless an operator opens it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.command import tuwen
from tests.support.stand_in import StandIn
from tuwen_server import EmbeddedServer, ServerOptions

OPEN = replace(ServerOptions.on_free_ports(), host="0.0.0.0")


def arguments_of(stand_in: StandIn, repository: Path, options: ServerOptions) -> list[str]:
    """Return the arguments that tritonserver was started with."""
    with EmbeddedServer(repository, options):
        return stand_in.starts()[-1]


def restricted_over_http(arguments: list[str]) -> set[str]:
    [http] = [argument for argument in arguments if argument.startswith("--http-restricted-api=")]
    return set(http.removeprefix("--http-restricted-api=").partition(":")[0].split(","))


def test_http_listens_on_loopback_where_grpc_does_not(stand_in: StandIn, repository: Path) -> None:
    arguments = arguments_of(stand_in, repository, OPEN)
    assert {"--grpc-address=0.0.0.0", "--metrics-address=0.0.0.0", "--http-address=127.0.0.1"} <= set(arguments)
    assert {"inference", "metadata", "model-config", "statistics"} <= restricted_over_http(arguments)
    assert "health" not in restricted_over_http(arguments)


def test_an_operator_can_open_http(stand_in: StandIn, repository: Path) -> None:
    arguments = arguments_of(stand_in, repository, replace(OPEN, http_inference=True))
    assert "--http-address=0.0.0.0" in arguments
    assert restricted_over_http(arguments) == {"model-repository", "shared-memory", "trace", "logging"}


def test_http_stays_closed_where_grpc_is_encrypted(stand_in: StandIn, repository: Path) -> None:
    encrypted = replace(ServerOptions.on_free_ports(), http_inference=True, arguments=("--grpc-use-ssl=true",))
    assert "inference" in restricted_over_http(arguments_of(stand_in, repository, encrypted))


@pytest.mark.parametrize(
    ("host", "exposed"),
    [("127.0.0.1", False), ("127.0.0.2", False), ("localhost", False), ("0.0.0.0", True), ("", True)],
)
def test_addresses_that_other_machines_reach_are_known(host: str, exposed: bool) -> None:
    assert ServerOptions(host=host).exposed == exposed


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--host", "0.0.0.0"), "security fixes"), (("--http-inference",), "CVE-2025-23310"), ((), "")],
)
def test_serve_warns_of_what_it_opens(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    told = tuwen("serve", str(tmp_path), *options, code=1).stderr
    assert words in told
    assert ("warning:" in told) == bool(words)
