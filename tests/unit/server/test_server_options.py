"""What a user may choose about the embedded server is checked before anything starts."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from tuwen import InvalidArgumentError
from tuwen_build.errors import PortTakenError
from tuwen_build.server import ServerOptions

KEY = "a-key-for-the-test"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"grpc_port": 70_000}, "the gRPC port must be from 0"),
        ({"grpc_port": 8000}, "the ports must differ"),
        ({"ready_timeout": 0}, "must be positive"),
        ({"silence": 0}, "must be positive"),
        ({"drain_timeout": -1}, "the drain timeout at least 0"),
        ({"cache_mib": -1}, "0 MiB or more"),
        ({"key": "short"}, "at least 16"),
        ({"key": "sixteen letters:"}, "at least 16"),
        ({"arguments": ("verbose",)}, "'verbose'"),
        ({"arguments": ("--grpc-port=1",)}, "--grpc-port is set by tuwen itself"),
    ],
)
def test_rejects_options_that_make_no_sense(choice: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        ServerOptions(**choice)  # type: ignore[arg-type]


def test_the_default_address_is_loopback() -> None:
    assert ServerOptions().host == "127.0.0.1"


def test_the_representation_does_not_contain_the_key() -> None:
    assert KEY not in repr(replace(ServerOptions.on_free_ports(), key=KEY))


def test_a_port_of_zero_becomes_a_free_port() -> None:
    resolved = ServerOptions(http_port=0, grpc_port=0, metrics_port=0).with_ports_resolved()
    assert len(set(resolved.ports.values())) == 3
    assert 0 not in resolved.ports.values()


def test_a_server_that_listens_everywhere_is_reached_on_loopback() -> None:
    assert replace(ServerOptions.on_free_ports(), host="0.0.0.0").reachable_host == "127.0.0.1"
    assert replace(ServerOptions.on_free_ports(), host="10.1.2.3").reachable_host == "10.1.2.3"


def test_names_the_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = f"cannot listen on 127.0.0.1:{port} for gRPC: Address already in use"
        with pytest.raises(PortTakenError, match=message):
            replace(ServerOptions.on_free_ports(), grpc_port=port).with_ports_resolved()
