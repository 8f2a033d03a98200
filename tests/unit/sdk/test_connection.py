"""TLS, mutual TLS, headers and load balancing of both clients, over real connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from tests.support.blocking import Blocking
from tests.support.command import tuwen
from tests.support.grpc_server import GrpcServer
from tuwen import (
    AccessDeniedError,
    AsyncClient,
    Client,
    InvalidArgumentError,
    RetryPolicy,
    ServerUnavailableError,
    Tls,
)
from tuwen.connection import channel_options
from tuwen_repository.samples import sample

Make = Callable[..., AbstractContextManager[Any]]
ONCE = RetryPolicy(attempts=1)


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Make:
    def sync(*arguments: Any, **options: Any) -> Client:
        return Client(*arguments, **options)

    def other(*arguments: Any, **options: Any) -> Blocking:
        return Blocking(lambda: AsyncClient(*arguments, **options))

    return sync if request.param == "sync" else other  # type: ignore[return-value]


class Authority:
    """A certificate authority, with a certificate for the server and a certificate for the client.

    Attributes:
        server: the server's certificate.
        root: the certificate of the authority, in PEM format.
        ca: the file with the authority's certificate.
        certificate: the file with the client's certificate.
        key: the file with the private key of the client's certificate.
    """

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.server = authority.issue_cert("clip.example.org", "localhost")
        client = authority.issue_cert("client.example.org")
        self.root = authority.cert_pem.bytes()
        self.ca, self.certificate, self.key = (folder / name for name in ("ca.pem", "client.pem", "client.key"))
        self.ca.write_bytes(self.root)
        self.certificate.write_bytes(client.cert_chain_pems[0].bytes())
        self.key.write_bytes(client.private_key_pem.bytes())

    def credentials(self, *, mutual: bool) -> grpc.ServerCredentials:
        pair = (self.server.private_key_pem.bytes(), self.server.cert_chain_pems[0].bytes())
        return grpc.ssl_server_credentials([pair], self.root if mutual else None, require_client_auth=mutual)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class TestProxies:
    def test_a_server_on_loopback_is_called_without_the_proxy(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("grpc_proxy", "https_proxy", "http_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        for name in ("no_grpc_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        with GrpcServer() as server, make(server.url, retries=ONCE) as clip:
            assert clip.embed_texts(["猫"]).shape == (1, 512)

    @pytest.mark.parametrize(
        ("target", "direct"),
        [
            ("localhost:8001", True),
            ("127.0.0.2:8001", True),
            ("[::1]:8001", True),
            ("dns:///localhost:8001", True),
            ("ipv4:127.0.0.1:1,127.0.0.1:2", True),
            ("ipv4:127.0.0.1:1,10.0.0.1:2", False),
            ("ipv6:[::1]:8001", True),
            ("clip:8001", False),
            ("dns://127.0.0.1/clip.search.svc:8001", False),
            ("[2001:db8::1]:8001", False),
        ],
    )
    def test_only_loopback_is_excluded_from_proxies(self, target: str, direct: bool) -> None:
        assert (("grpc.enable_http_proxy", 0) in channel_options(target)) == direct


class TestTls:
    def test_a_server_with_a_certificate_of_the_authority_is_trusted(self, make: Make, authority: Authority) -> None:
        tls = Tls(ca=authority.ca, server_name="clip.example.org")
        with GrpcServer(authority.credentials(mutual=False)) as server, make(server.url, tls=tls) as clip:
            assert clip.embed_texts(["猫"]).shape == (1, 512)

    @pytest.mark.parametrize("tls", [None, Tls(), Tls(server_name="clip.example.org")])
    def test_a_server_without_a_trusted_certificate_is_refused(
        self, make: Make, authority: Authority, tls: Tls | None
    ) -> None:
        with (
            GrpcServer(authority.credentials(mutual=False)) as server,
            make(server.url, tls=tls, retries=ONCE) as clip,
            pytest.raises(ServerUnavailableError if tls is None else AccessDeniedError),
        ):
            clip.embed_texts(["猫"])

    def test_a_certificate_for_another_name_is_refused(self, make: Make, authority: Authority) -> None:
        with (
            GrpcServer(authority.credentials(mutual=False)) as server,
            make(server.url, tls=Tls(ca=authority.ca, server_name="evil.example.org"), retries=ONCE) as clip,
            pytest.raises(AccessDeniedError),
        ):
            clip.embed_texts(["猫"])

    def test_mutual_tls_requires_the_clients_certificate(self, make: Make, authority: Authority) -> None:
        known = Tls(authority.ca, authority.certificate, authority.key, server_name="clip.example.org")
        unknown = Tls(authority.ca, server_name="clip.example.org")
        with GrpcServer(authority.credentials(mutual=True)) as server:
            with make(server.url, tls=known) as clip:
                assert clip.embed_texts(["猫"]).shape == (1, 512)
            with make(server.url, tls=unknown, retries=ONCE) as clip, pytest.raises(ServerUnavailableError):
                clip.embed_texts(["猫"])

    def test_certificate_files_are_checked_at_once(self, make: Make, authority: Authority, tmp_path: Path) -> None:
        with pytest.raises(InvalidArgumentError, match="cannot read '.*missing.pem': No such file"):
            Client("localhost:8001", tls=Tls(ca=tmp_path / "missing.pem"))
        with pytest.raises(InvalidArgumentError, match="a certificate and its key"):
            Tls(certificate=authority.certificate)


def test_closing_after_an_interrupted_call_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing a client returns even if Ctrl-C came after grpcio made a call and before it started the call's thread.

    In that state grpcio's own `close` waits for ever, because the call never ends.
    """

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with GrpcServer() as server:
        clip = Client(server.url)
        clip.model_card()
        monkeypatch.setattr("grpc._channel._run_channel_spin_thread", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(clip.stream_texts(["猫"] * 100))
        monkeypatch.undo()
        monkeypatch.setattr("tuwen._grpc._CLOSE_SECONDS", 0.1)
        clip.close()  # must return


class TestCommandLine:
    """The connection options of the command line, which stand before the command's name."""

    @staticmethod
    def run(*arguments: str, code: int = 0) -> str:
        finished = tuwen(*arguments, code=code)
        assert "s3cret" not in finished.stderr
        return finished.stdout + finished.stderr

    def test_commands_use_mutual_tls(self, authority: Authority) -> None:
        files = (str(authority.ca), str(authority.certificate), str(authority.key))
        with GrpcServer(authority.credentials(mutual=True)) as server:
            url = server.url.replace("127.0.0.1", "localhost")
            options = [part for pair in zip(("--ca", "--certificate", "--key"), files, strict=True) for part in pair]
            shown = self.run(*options, "similarity", "-u", url, "-i", str(sample("cat.jpg")), "-t", "猫")
            assert "100.0%" in shown
            assert "not ready" in self.run("--ca", files[0], "status", "-u", url, "--timeout", "1", code=1)

    def test_commands_send_headers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        arguments = ("embed", "-t", "猫", "--json")
        with GrpcServer() as server:
            self.run("--header", "Authorization: Bearer s3cret", *arguments, "-u", server.url)
            monkeypatch.setenv("TUWEN_HEADERS", "triton-key: s3cret\nx-team: search\n")
            self.run(*arguments, "-u", server.url)
        assert server.calls[0]["authorization"] == "Bearer s3cret"
        assert (server.calls[1]["triton-key"], server.calls[1]["x-team"]) == ("s3cret", "search")

    def test_embed_names_the_files_that_it_leaves_out(self, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        for name in ("a.txt", "b.mov"):
            (tmp_path / "photos" / name).write_bytes(b"")
        (tmp_path / "photos" / "cat").write_bytes(sample("cat.jpg").read_bytes())
        command = ("embed", str(tmp_path / "photos"), "-o", str(tmp_path / "v.npz"))
        with GrpcServer() as server:
            shown = self.run(*command, "-u", server.url)
            named = self.run(*command, "-u", server.url, "--show-ignored")
        assert "1 added" in shown
        assert "files that are not images: 1 .mov, 1 .txt" in shown
        assert str(tmp_path / "photos" / "b.mov") in named
        assert str(tmp_path / "photos" / "b.mov") not in shown

    def test_a_header_without_a_colon_is_refused_and_not_shown(self) -> None:
        assert "got a line without a colon" in self.run("--header", "s3cret", "status", code=1)


class TestHeaders:
    def test_every_request_carries_the_headers(self, make: Make) -> None:
        with GrpcServer() as server, make(server.url, headers={"authorization": "Bearer s3cret"}) as clip:
            clip.embed_texts(["猫"])
            assert server.calls[0]["authorization"] == "Bearer s3cret"
            assert "s3cret" not in repr(clip)

    def test_the_header_function_is_called_for_every_request(self, make: Make) -> None:
        tokens = iter(range(100))
        with GrpcServer() as server, make(server.url, headers=lambda: {"token": f"t{next(tokens)}"}) as clip:
            clip.embed_texts(["猫"])
            clip.embed_texts(["狗"])
            assert len({call["token"] for call in server.calls}) == 2

    def test_an_asynchronous_client_may_await_its_token(self) -> None:
        async def token() -> Mapping[str, str]:
            return {"token": "awaited"}

        with GrpcServer() as server, Blocking(lambda: AsyncClient(server.url, headers=token)) as clip:
            clip.embed_texts(["猫"])
            assert server.calls[0]["token"] == "awaited"

    def test_a_restricted_protocol_requires_its_key(self, make: Make) -> None:
        key = ("triton-grpc-protocol-infer-key", "s3cret")
        with GrpcServer(key=key) as server:
            with make(server.url, headers=dict([key])) as clip:
                assert clip.embed_texts(["猫"]).shape == (1, 512)
            with make(server.url) as clip, pytest.raises(AccessDeniedError) as caught:
                clip.embed_texts(["猫"])
            assert len(server.calls) == 2  # a refused key is not tried again
        assert not caught.value.retryable

    @pytest.mark.parametrize(
        "headers",
        [
            {"Twice": "x", "twice": "x"},
            {"a b": "x"},
            {"data-bin": "x"},
            {"name": "s3cret\n"},
            {"name": "s3crét"},
            {"name": 3},
            {"Grpc-Timeout": "s3c"},
            {"grpc-status": "s3c"},
            {"Content-Type": "s3c"},
            {"user-agent": "s3c"},
            {"te": "s3c"},
            {"connection": "s3c"},
        ],
    )
    def test_an_invalid_header_is_refused_without_showing_its_value(self, headers: Any) -> None:
        for client in (Client, AsyncClient):
            with pytest.raises(InvalidArgumentError) as caught:
                client("localhost:8001", headers=headers)
            assert "s3c" not in str(caught.value)


def test_calls_spread_over_the_servers_behind_a_name(make: Make) -> None:
    with GrpcServer() as first, GrpcServer() as second:
        with make(f"ipv4:{first.url},{second.url}") as clip:
            for number in range(40):
                clip.embed_texts([str(number)])
        assert min(len(first.calls), len(second.calls)) >= 10


def test_the_other_server_handles_the_calls_of_a_stopped_server(make: Make) -> None:
    with GrpcServer() as first:
        second = GrpcServer().__enter__()
        with make(f"ipv4:{first.url},{second.url}") as clip:
            for number in range(30):
                clip.embed_texts([str(number)])
                if number == 10:
                    second.__exit__()
    assert len(first.calls) + len(second.calls) >= 30
