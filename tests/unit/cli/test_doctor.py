"""`tuwen doctor` collects facts from a server, its certificate and the name resolution."""

from __future__ import annotations

import datetime
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from tritonclient.grpc import service_pb2

from tests.support.command import tuwen
from tests.support.grpc_server import GrpcServer
from tuwen import Tls
from tuwen_cli import examination
from tuwen_cli.examination import examine


def facts_of(server: GrpcServer, **settings: Any) -> Any:
    return examine(server.url, **{"tls": None, "headers": {}, "timeout": 5.0, **settings})


class OpenServer(GrpcServer):
    """A fake server whose tracing needs no key. The control of models needs the server's key, if the server has one."""

    def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self._key and dict(context.invocation_metadata()).get(self._key[0]) != self._key[1]:
            context.abort(grpc.StatusCode.UNAVAILABLE, "This protocol is restricted")
        return service_pb2.RepositoryIndexResponse()

    def TraceSetting(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.TraceSettingResponse()


@pytest.fixture
def server() -> Iterator[GrpcServer]:
    with GrpcServer() as running:
        yield running


def test_reads_version_models_and_clock(server: GrpcServer) -> None:
    server.clock_skew = -60.0
    facts = facts_of(server)
    assert (facts.unreachable, facts.ready, facts.version, facts.silent) == ("", True, "2.75.0", "")
    assert facts.local
    assert facts.open_protocols == ()
    assert facts.clock_skew == pytest.approx(-60, abs=5)
    assert facts.several_servers is False
    assert facts.addresses == ("127.0.0.1",)
    assert facts.shared_memory_free is None or facts.shared_memory_free >= 0


def test_finds_control_that_is_open_to_everybody() -> None:
    with OpenServer() as server:
        assert facts_of(server).open_protocols == ("model-repository", "trace")
    key = ("triton-grpc-protocol-tuwen", "the-key-of-the-server")
    with OpenServer(key=key) as server:
        assert facts_of(server, headers=dict([key])).open_protocols == ("trace",)


def test_a_default_port_is_examined_only_beside_the_default_port_of_grpc() -> None:
    assert examination._beside(8001, None, 8000) == 8000
    assert examination._beside(9001, None, 8000) == 0  # port 8000 may belong to another server
    assert examination._beside(9001, 9000, 8000) == 9000
    assert examination._beside(8001, 0, 8000) == 0
    assert examination._beside(0, 9000, 8000) == 0  # the address is a Unix socket


def test_counts_the_batches_of_a_burst(server: GrpcServer) -> None:
    burst = facts_of(server, burst=8).burst
    assert (burst.requests, burst.failures, burst.batches) == (8, 0, 0)  # the fake server counts no batches of encoders


def test_a_model_that_hangs_is_found_before_the_timeout() -> None:
    with GrpcServer(before_answer=lambda: time.sleep(1.5)) as server:
        facts = facts_of(server, timeout=0.5)
    assert "text_embedding returned no embedding" in facts.silent
    assert facts.clock_skew is None


def test_counters_that_decrease_show_several_servers(monkeypatch: pytest.MonkeyPatch, server: GrpcServer) -> None:
    """A counter that decreases shows that one address leads to several servers.

    In this test, each new connection reaches a different server, as behind a load balancer.
    """
    with GrpcServer() as other:
        facts_of(server)
        urls = iter([server.url, other.url, server.url])
        real = examination._Server
        monkeypatch.setattr(examination, "_Server", lambda _, *rest, **options: real(next(urls), *rest, **options))
        assert examination._several_servers(server.url, None, {}, 5.0) is True


def test_a_name_with_several_addresses_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*host_and_port: Any, **_: Any) -> list[Any]:
        kind, stream = socket.AF_INET, socket.SOCK_STREAM
        return [(kind, stream, 6, "", (f"10.0.0.{number}", host_and_port[1])) for number in (2, 1)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    assert examination._addresses("clip.search", 8001) == ("10.0.0.1", "10.0.0.2")
    assert examination._host_and_port("dns://10.0.0.53/clip.search:8001") == ("clip.search", 8001)
    assert examination._host_and_port("[::1]:8001") == ("::1", 8001)
    assert examination._host_and_port("unix:/run/triton.sock") == ("", 0)


class TestCertificate:
    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    def served(self, authority: trustme.CA, name: str, days: float) -> GrpcServer:
        expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
        issued = authority.issue_cert(name, not_after=expires)
        pair = issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()
        return GrpcServer(grpc.ssl_server_credentials([pair]))

    def trusted(self, authority: trustme.CA, folder: Path) -> Tls:
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        return Tls(ca=folder / "ca.pem")

    def test_a_trusted_certificate_has_days_left(self, authority: trustme.CA, tmp_path: Path) -> None:
        with self.served(authority, "127.0.0.1", 3) as server:
            facts = facts_of(server, tls=self.trusted(authority, tmp_path))
        assert (facts.unreachable, facts.certificate.problem) == ("", "")
        assert facts.certificate.days_left == pytest.approx(3, abs=0.1)
        assert facts.certificate.names == ("127.0.0.1",)

    def test_a_certificate_for_another_name_is_reported(self, authority: trustme.CA, tmp_path: Path) -> None:
        with self.served(authority, "clip.example", 30) as server:
            facts = facts_of(server, tls=self.trusted(authority, tmp_path))
        assert "127.0.0.1" in facts.certificate.problem
        assert facts.certificate.names == ("clip.example",)
        assert facts.unreachable

    def test_an_unknown_authority_is_refused(self, authority: trustme.CA, tmp_path: Path) -> None:
        with self.served(authority, "127.0.0.1", 30) as server:
            facts = facts_of(server, tls=self.trusted(trustme.CA(), tmp_path), timeout=2.0)
        assert facts.certificate.problem
        assert facts.unreachable


def test_a_port_without_tls_is_named(server: GrpcServer) -> None:
    facts = facts_of(server, tls=Tls(), timeout=2.0)
    assert "does not speak TLS" in facts.certificate.problem


class LateCounter(GrpcServer):
    """A fake server whose statistics show an inference only after a few requests, as Triton's do for an ensemble."""

    looks = 0

    def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: N802
        response, self.looks = super().ModelStatistics(request, context), self.looks + 1
        for model in response.model_stats:
            model.last_inference = 1_000 if self.looks < 4 else int(time.time() * 1e3)
        return response


def test_an_inference_that_is_counted_late_is_waited_for() -> None:
    with LateCounter() as server, examination._connected(server.url, None, {}) as connected:
        connected.wire.infer("text_embedding", "text", b"x", 5.0)
        assert examination._clock_skew(connected, "", 5.0) == pytest.approx(0, abs=2)


def test_the_command_prints_findings_and_remedies(server: GrpcServer) -> None:
    server.version = "2.51.0"
    said = tuwen("doctor", server.url).stdout
    assert "warning  version: Triton 2.51.0 has known vulnerabilities" in said
    assert "use release 26.09" in said
    told = json.loads(tuwen("doctor", server.url, "--json").stdout)
    assert told["triton"] == "2.51.0"
    assert {"check", "severity", "message", "remedy"} == set(told["findings"][0])


def test_the_exit_code_is_one_after_an_error(server: GrpcServer) -> None:
    server.clock_skew = 3_600.0
    said = tuwen("doctor", server.url, code=1).stdout
    # the response takes a moment, which makes the difference look smaller
    assert re.search(r"error    clock: the server's clock is 3(600\.0|59\d\.\d) s ahead", said)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        failed = tuwen("doctor", f"127.0.0.1:{unused.getsockname()[1]}", "--timeout", "0.5", code=1)
    assert failed.stdout.startswith("error    connection: no answer from 127.0.0.1:")
