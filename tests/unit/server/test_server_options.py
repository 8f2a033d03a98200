"""The options of the embedded server are checked before it starts."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from tuwen import InvalidArgumentError
from tuwen_server import ServerOptions
from tuwen_server.errors import PortTakenError

KEY = "a-key-for-the-test"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"grpc_port": 70_000}, "grpc_port: expected a number from 0 to 65,535"),
        ({"grpc_port": 8000}, "expected three different ports"),
        ({"ready_timeout": 0}, "ready_timeout: expected a finite number above 0"),
        ({"silence": 0}, "silence: expected a finite number above 0"),
        ({"drain_timeout": -1}, "drain_timeout: expected a number from 0 to 1,000,000"),
        ({"ready_timeout": float("nan")}, "ready_timeout: expected a finite number"),
        ({"ready_timeout": float("inf")}, "ready_timeout: expected a finite number"),
        ({"silence": float("nan")}, "silence: expected a finite number"),
        ({"drain_timeout": 10**12}, "drain_timeout: expected a number from 0 to 1,000,000"),
        ({"cache_mib": -1}, "cache_mib: expected a number from 0"),
        ({"cache_mib": 10**20}, "cache_mib: expected a number from 0"),
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


@pytest.mark.parametrize(
    ("host", "reached", "exposed"),
    [("::1", "[::1]", False), ("[::1]", "[::1]", False), ("::", "[::1]", True), ("2001:db8::1", "[2001:db8::1]", True)],
)
def test_ipv6_addresses_have_brackets_before_a_port(host: str, reached: str, exposed: bool) -> None:
    options = replace(ServerOptions.on_free_ports(), host=host)
    assert (options.reachable_host, options.exposed) == (reached, exposed)


@pytest.mark.parametrize("host", ["no such host", "x" * 100, "ff:ff:zz"])
def test_a_host_that_nobody_can_listen_on_is_a_typed_error(host: str) -> None:
    with pytest.raises(PortTakenError, match="cannot listen on"):
        replace(ServerOptions.on_free_ports(), host=host).with_ports_resolved()


def test_finds_free_ports_on_an_ipv6_address() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    resolved = replace(ServerOptions.on_free_ports(), host="::1").with_ports_resolved()
    assert 0 not in resolved.ports.values()


def test_names_the_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = f"cannot listen on 127.0.0.1:{port} for gRPC: Address already in use"
        with pytest.raises(PortTakenError, match=message):
            replace(ServerOptions.on_free_ports(), grpc_port=port).with_ports_resolved()
