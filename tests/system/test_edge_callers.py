"""Tests of access control in the chart's Envoy: keys, tokens, rate limits, and certificates of the servers."""

from __future__ import annotations

import base64
import datetime
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.command import wait_until
from tests.support.envoy import ENVOY, HOSTS, SERVER_NAME, Edge, Fleet, write_secret
from tuwen import AccessDeniedError, Client, OverloadedError, RetryPolicy, ServerUnavailableError, Tls

pytestmark = pytest.mark.skipif(not ENVOY.exists(), reason="Envoy is not installed; its package exists for Linux only")
ONCE = RetryPolicy(attempts=1)
ISSUER = "https://identity.example.com"
KEYS = {"shop": "the-key-of-the-shop", "crawler": "the-key-of-the-crawler"}


@pytest.fixture(scope="module")
def fleet(repository: Path) -> Iterator[Fleet]:
    with Fleet(repository, hosts=HOSTS[:1]) as running:
        yield running


def embed(edge: Edge, headers: dict[str, str] | None = None, tls: Tls | None = None, times: int = 1) -> None:
    """Embed one text a number of times, with one request each time and without retries."""
    with Client(edge.url, headers=headers, tls=tls, retries=ONCE, timeout=10, remembered_texts=0) as clip:
        for _ in range(times):
            clip.embed_texts(["一只猫"])


def access_log(edge: Edge) -> list[dict[str, Any]]:
    return [json.loads(line) for line in edge.log().splitlines() if line.startswith("{")]


def test_only_callers_with_a_valid_key_are_allowed(fleet: Fleet, tmp_path: Path) -> None:
    with Edge(fleet, tmp_path, values={"envoy": {"apiKeys": KEYS, "accessLog": "all"}}) as edge:
        for headers in ({}, {"x-api-key": "the-key-of-nobody"}, {"x-tuwen-caller": "shop"}):
            with pytest.raises(AccessDeniedError):
                embed(edge, headers)
        embed(edge, {"x-api-key": KEYS["shop"]})
        wait_until(lambda: any(line["caller"] == "shop" for line in access_log(edge)))
        assert not any(key in edge.log() for key in KEYS.values())


def test_only_callers_with_a_valid_token_are_allowed(fleet: Fleet, tmp_path: Path) -> None:
    mine, other = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    now = int(time.time())
    good = {"iss": ISSUER, "sub": "shop", "aud": "clip", "exp": now + 600}
    values = {"jwt": {"issuer": ISSUER, "audiences": ["clip"], "jwks": jwks(mine)}, "accessLog": "all"}
    with Edge(fleet, tmp_path, values={"envoy": values}) as edge:
        refused = [None, token(other, good)]
        refused += [token(mine, {**good, **wrong}) for wrong in ({"exp": now - 600}, {"aud": "a"}, {"iss": "a"})]
        for value in refused:
            with pytest.raises(AccessDeniedError):
                embed(edge, {} if value is None else {"authorization": f"Bearer {value}"})
        embed(edge, {"authorization": f"Bearer {token(mine, good)}", "x-tuwen-caller": "crawler"})
        wait_until(lambda: any(line["status"] == "OK" for line in access_log(edge)))
        assert {line["caller"] for line in access_log(edge) if line["status"] == "OK"} == {"shop"}


def test_a_caller_over_its_rate_limit_is_refused_and_others_are_not(fleet: Fleet, tmp_path: Path) -> None:
    values = {"apiKeys": KEYS, "rateLimit": {"requestsPerSecond": 1, "burst": 5}}
    with Edge(fleet, tmp_path, values={"envoy": values}) as edge:
        crawler = {"x-api-key": KEYS["crawler"]}
        with pytest.raises(OverloadedError) as error:
            embed(edge, crawler, times=100)
        assert error.value.code == "RESOURCE_EXHAUSTED"
        embed(edge, {"x-api-key": KEYS["shop"]})
        assert edge.metric("envoy_http_local_rate_limit_rate_limited\\S+") > 0
        wait_until(lambda: any(line["status"] == "ResourceExhausted" for line in access_log(edge)))
        assert {line["caller"] for line in access_log(edge)} == {"crawler"}


def test_requests_beyond_the_circuit_breaker_are_refused_and_counted(fleet: Fleet, tmp_path: Path) -> None:
    with Edge(fleet, tmp_path, values={"envoy": {"limits": {"requests": 1}}}) as edge:
        with grpc.insecure_channel(edge.url) as channel:
            over = threading.Event()
            stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            call = stream(_nothing_until(over))
            wait_until(lambda: edge.metric('envoy_cluster_upstream_rq_active{envoy_cluster_name="server"}') == 1)
            with pytest.raises(ServerUnavailableError):
                embed(edge)
            over.set()
            call.cancel()
        assert edge.metric(r"envoy_cluster_upstream_rq_(?:pending|active)_overflow\S+") == 1
        wait_until(lambda: "UO" in {line["flags"] for line in access_log(edge)})


def test_a_server_with_a_certificate_for_another_name_is_refused(repository: Path, tmp_path: Path) -> None:
    """Envoy refuses a server whose certificate is for another name, even if the authority is the right one."""
    authority = trustme.CA()
    secret = tmp_path / "tls"
    write_secret(secret, "another.search.svc", "localhost", authority=authority)
    tls = {"tls": {"secret": "clip-tls", "mutual": True}}
    with Fleet(repository, secret, HOSTS[:1], tls) as fleet:
        named = {"tls": {**tls["tls"], "serverNames": ["another.search.svc"]}}
        with Edge(fleet, tmp_path / "named", secret, named) as edge:
            embed(edge, tls=fleet.tls)
        edge = Edge(fleet, tmp_path / "unnamed", secret)
        with pytest.raises(AssertionError, match="not true within"):
            edge.start(seconds=15)
        assert edge.metric("envoy_cluster_ssl_fail_verify_san\\S+") > 0
        edge.stop()


def test_a_renewed_certificate_takes_effect_without_a_restart(repository: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    secret = tmp_path / "tls"
    tls = {"tls": {"secret": "clip-tls", "mutual": True}}
    names = ("localhost", *HOSTS, SERVER_NAME)
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=3, hours=1)
    write_secret(secret, *names, authority=authority, expires=soon)
    with Fleet(repository, secret, HOSTS[:1], tls) as fleet, Edge(fleet, tmp_path / "edge", secret) as edge:
        assert edge.metric("envoy_server_days_until_first_cert_expiring\\S*") == 3
        before = certificate(edge, fleet)
        write_secret(secret, *names, authority=authority)
        wait_until(lambda: certificate(edge, fleet) != before)
        embed(edge, tls=fleet.tls)
        wait_until(lambda: edge.metric("envoy_server_days_until_first_cert_expiring\\S*") > 30)


def _nothing_until(over: threading.Event) -> Iterator[bytes]:
    over.wait(60)
    yield from ()


def certificate(edge: Edge, fleet: Fleet) -> int:
    """Return the serial number of the certificate that Envoy presents to callers."""
    assert fleet.tls is not None
    context = ssl.create_default_context(cafile=str(fleet.tls.ca))
    context.load_cert_chain(str(fleet.tls.certificate), str(fleet.tls.key))
    context.set_alpn_protocols(["h2"])
    host, _, port = edge.url.rpartition(":")
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as encrypted,
    ):
        found = encrypted.getpeercert(binary_form=True)
    assert found is not None
    return x509.load_der_x509_certificate(found).serial_number


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwks(key: rsa.RSAPrivateKey) -> str:
    """Return a JSON Web Key Set that holds the public key of a key pair."""
    numbers = key.public_key().public_numbers()
    parts = {"n": numbers.n, "e": numbers.e}
    values = {name: encoded(value.to_bytes((value.bit_length() + 7) // 8, "big")) for name, value in parts.items()}
    return json.dumps({"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", **values}]})


def token(key: rsa.RSAPrivateKey, claims: dict[str, Any]) -> str:
    """Return a JSON Web Token with the given claims, signed with the given key."""
    head = {"alg": "RS256", "typ": "JWT", "kid": "1"}
    signed = ".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
    return f"{signed}.{encoded(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"
