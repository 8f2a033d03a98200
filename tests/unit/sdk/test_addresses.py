"""Wrong addresses and refused TLS. Both clients name the cause in the error, and do not retry."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest
import trustme

from tests.support.blocking import Blocking, Make
from tests.support.command import tuwen
from tests.support.grpc_server import GrpcServer
from tuwen import (
    AccessDeniedError,
    AddressError,
    AsyncClient,
    Client,
    ClientClosedError,
    DeadlineExceededError,
    InvalidArgumentError,
    RetryPolicy,
    ServerError,
    ServerUnavailableError,
    Tls,
)
from tuwen._grpc import GrpcTransport

ONCE = RetryPolicy(attempts=1)


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Make:
    def other(*arguments: Any, **options: Any) -> Blocking:
        return Blocking(lambda: AsyncClient(*arguments, **options))

    return Client if request.param == "sync" else other


@pytest.fixture(scope="module")
def http_port() -> Iterator[int]:
    with HTTPServer(
        ("127.0.0.1", 0), type("Quiet", (BaseHTTPRequestHandler,), {"log_message": lambda *_: None})
    ) as web:
        thread = Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield web.server_port
        web.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[grpc.ServerCredentials, Path, Path]:
    """Return a server's credentials, the file of the authority that signed them, and the file of another authority."""
    folder = tmp_path_factory.mktemp("authorities")
    ours, other = trustme.CA(), trustme.CA()
    pair = ours.issue_cert("localhost")
    for authority, name in ((ours, "ours.pem"), (other, "other.pem")):
        authority.cert_pem.write_to_path(str(folder / name))
    credentials = grpc.ssl_server_credentials([(pair.private_key_pem.bytes(), pair.cert_chain_pems[0].bytes())])
    return credentials, folder / "ours.pem", folder / "other.pem"


def failure(make: Make, url: str, method: str = "model_card", **options: Any) -> ServerError:
    """Return the error that a call raises.

    Args:
        make: a function that makes a client.
        url: the address.
        method: the method that is called.
        options: the options of the client.
    """
    arguments = (["猫"],) if method == "embed_texts" else ()
    with make(url, **options) as clip, pytest.raises(ServerError) as caught:
        getattr(clip, method)(*arguments)
    return caught.value


@pytest.mark.parametrize("method", ["model_card", "embed_texts", "statistics"])
def test_an_http_port_raises_an_address_error_without_retries(make: Make, http_port: int, method: str) -> None:
    error = failure(make, f"127.0.0.1:{http_port}", method)
    assert type(error) is AddressError
    assert "speaks HTTP instead of gRPC; Triton's gRPC port is usually 8001" in str(error)


def test_the_error_for_a_port_that_closes_connections_names_the_grpc_port(make: Make) -> None:
    """A port that closes each new connection may be Triton's HTTP port, so the error says which port to use."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close_each() -> None:
            with suppress(OSError):
                while True:
                    connection = server.accept()[0]
                    connection.recv(1024)
                    connection.close()

        thread = Thread(target=close_each)
        thread.start()
        error = failure(make, f"127.0.0.1:{server.getsockname()[1]}", retries=ONCE)
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert type(error) is ServerUnavailableError
    assert "check that this is its gRPC port (Triton's is usually 8001, and 8000 is HTTP)" in str(error)


@pytest.mark.parametrize("command", [("status",), ("embed", "-t", "猫", "--json")])
def test_commands_report_an_http_port(http_port: int, command: tuple[str, ...]) -> None:
    finished = tuwen(*command, "-u", f"127.0.0.1:{http_port}", code=1)
    assert "speaks HTTP instead of gRPC" in finished.stdout + finished.stderr


def test_a_port_without_a_server_is_reported(make: Make) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = failure(make, f"127.0.0.1:{unused.getsockname()[1]}", retries=ONCE)
    assert type(error) is ServerUnavailableError
    assert "nothing listens at this address" in str(error)


def test_an_unknown_host_is_reported(make: Make) -> None:
    error = failure(make, "nowhere.invalid:8001", retries=ONCE)
    assert type(error) is ServerUnavailableError
    assert "the host name cannot be resolved" in str(error)


def test_tls_to_a_server_without_tls_raises_an_address_error_without_retries(make: Make, authorities: Any) -> None:
    with GrpcServer() as server:
        error = failure(make, server.url, tls=Tls(ca=authorities[1]))
    assert type(error) is AddressError
    assert "does not speak TLS" in str(error)


def test_the_error_for_a_call_without_tls_to_a_tls_server_mentions_tls(make: Make, authorities: Any) -> None:
    with GrpcServer(authorities[0]) as server:
        error = failure(make, server.url, retries=ONCE)
    assert type(error) is ServerUnavailableError
    assert "if it uses TLS, pass tls=Tls(...)" in str(error)


def test_a_certificate_of_an_unknown_authority_is_refused_without_retries(make: Make, authorities: Any) -> None:
    with GrpcServer(authorities[0]) as server:
        # localhost has two addresses, and gRPC reports only the last error: "connection refused" for the other address.
        error = failure(make, server.url, tls=Tls(ca=authorities[2], server_name="localhost"))
    assert type(error) is AccessDeniedError
    assert "certificate is not trusted" in str(error)


def test_a_certificate_of_another_host_is_refused_without_retries(make: Make, authorities: Any) -> None:
    with GrpcServer(authorities[0]) as server:
        error = failure(make, server.url, tls=Tls(ca=authorities[1], server_name="other.example"))
    assert type(error) is AccessDeniedError
    assert "another host name" in str(error)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("localhost:8001/", "has a path"),
        ("localhost:8001/v2", "has a path"),
        ("dns:///localhost:8001/", "has a path"),
        ("localhost", "no host or no port"),
        (":8001", "no host or no port"),
        ("::1:8001", "no host or no port"),
        ("localhost:grpc", "expected a port from 1 to 65535"),
        ("localhost:0", "expected a port from 1 to 65535"),
        ("localhost:99999", "expected a port from 1 to 65535"),
        ("http://localhost:8000", "8000 is HTTP"),
        ("tcp://localhost:8001", "begins with tcp://; pass only host:port"),
        ("https://user:s3cret@localhost:8000", "8000 is HTTP"),
        ("user:s3cret@localhost:8001", "no user name or password"),
    ],
)
def test_an_invalid_address_is_refused_at_once(url: str, why: str) -> None:
    for client in (Client, AsyncClient):
        with pytest.raises(InvalidArgumentError, match=why) as caught:
            client(url)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [" localhost:8001\n", "[::1]:8001", "grpc://h:1", "dns:///h:8001", "dns://8.8.8.8/h:8001", "dns:h:1", "unix:/tmp/x",
     "unix:///tmp/x", "ipv4:127.0.0.1:1,127.0.0.1:2"],
)  # fmt: skip
def test_every_form_of_a_grpc_target_is_accepted(url: str) -> None:
    Client(url).close()


def test_only_a_closed_channel_raises_client_closed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("a value that gRPC cannot send")

    with Client("localhost:1", retries=ONCE) as clip:
        transport = clip._transport
        assert isinstance(transport, GrpcTransport)
        monkeypatch.setattr(transport._stub, "ModelConfig", broken)
        with pytest.raises(ValueError, match="gRPC cannot send"):
            clip.model_card()
        monkeypatch.undo()
    with pytest.raises(ClientClosedError):
        clip.model_card()


def test_closing_an_asynchronous_client_raises_client_closed_error_in_its_calls() -> None:
    async def main() -> None:
        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        with GrpcServer(before_answer=lambda: (loop.call_soon_threadsafe(asked.set), held.result())) as server:
            clip = AsyncClient(server.url)
            call = asyncio.create_task(clip.embed_texts(["猫"]))
            await asked.wait()
            await clip.close()
            with pytest.raises(ClientClosedError):
                await call
            held.set_result(None)

    held: Future[None] = Future()
    asyncio.run(main())


def test_closing_while_headers_are_awaited_raises_client_closed_error() -> None:
    async def main() -> None:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def headers() -> dict[str, str]:
            asked.set()
            await go_on.wait()
            return {}

        clip = AsyncClient("localhost:1", headers=headers)
        call = asyncio.create_task(clip.model_card())
        await asked.wait()
        await clip.close()
        go_on.set()
        with pytest.raises(ClientClosedError):
            await call

    asyncio.run(main())


def test_headers_are_awaited_within_the_timeout_of_the_call() -> None:
    async def main() -> None:
        async def headers() -> dict[str, str]:
            await asyncio.Event().wait()
            return {}

        async with AsyncClient("localhost:1", headers=headers) as clip:
            with pytest.raises(DeadlineExceededError, match="headers"):
                await clip.model_card(timeout=0.05)
            assert not await clip.is_ready(timeout=0.05)

    asyncio.run(main())
