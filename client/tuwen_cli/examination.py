"""Functions that gather facts about a running server, over gRPC, HTTP, TLS and DNS. Each call has a deadline."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tuwen.model_names import full_name, names_in
from tuwen_cli.facts import Burst, Certificate, Facts, ModelFacts
from tuwen_cli.health_probe import NotAnsweredError, probe
from tuwen_cli.ports import GRPC_PORT, HTTP_PORT, METRICS_PORT, examine_http, examine_text_cache
from tuwen_cli.probe import GrpcWire

if TYPE_CHECKING:
    from tuwen import Tls

__all__ = ["examine"]

_CONNECTIONS = 6  # separate connections, which a load balancer may spread over several servers
_LOOKS, _LOOK_SECONDS = 20, 0.05
_DAY = 86_400.0
_KEY_HEADER = "triton-grpc-protocol"  # beginning of the names of the headers with a restricted protocol's key
_CONTROL = {
    "model-repository": ("RepositoryIndex", "RepositoryIndexRequest"),
    "shared-memory": ("SystemSharedMemoryStatus", "SystemSharedMemoryStatusRequest"),
    "trace": ("TraceSetting", "TraceSettingRequest"),
    "logging": ("LogSettings", "LogSettingsRequest"),
}
"""The protocols that a key should restrict, each with a method that changes nothing, and the method's request."""


def examine(
    url: str,
    *,
    tls: Tls | None,
    headers: dict[str, str],
    model: str = "",
    burst: int = 0,
    http_port: int | None = None,
    metrics_port: int | None = None,
    timeout: float = 5.0,
) -> Facts:
    """Return the facts about the server at an address.

    Args:
        url: host:port of the server's gRPC endpoint.
        tls, headers: the encryption and the headers of every call, as for `tuwen.Client`.
        model: the name of the repository to probe; empty: all repositories are probed, and the first one is timed.
        burst: the number of requests to send at once, to count the batches that Triton forms; 0: no requests are sent.
        http_port: the port of Triton's HTTP API; 0: the port is not examined. None: 8000 if gRPC has port 8001, else 0.
        metrics_port: the port of the metrics; 0: the port is not examined. None: 8002 if gRPC has port 8001, else 0.
        timeout: the maximum time in seconds for each call.
    """
    host, port = _host_and_port(url)
    facts = Facts(url, local=_is_local(host), encrypted=tls is not None, is_name=not _is_address(host))
    facts = replace(facts, addresses=_addresses(host, port))
    if tls is not None and host:
        facts = replace(facts, certificate=_certificate(host, port, tls, timeout))
    with _connected(url, tls, headers) as server:
        try:
            facts = replace(facts, ready=server.call("ServerReady", "ServerReadyRequest", timeout).ready)
        except NotAnsweredError as error:
            return replace(facts, unreachable=str(error))
        facts = replace(facts, version=_version(server, timeout), models=_models(server, timeout))
        names = (model,) if model else tuple(names_in(facts.models))
        first = names[0] if names else ""
        facts = replace(facts, silent=_silent(server.wire, names, timeout))
        if http_port := _beside(port, http_port, HTTP_PORT):
            ensemble = full_name(first, "text_embedding")
            facts = replace(facts, http=examine_http(host, http_port, ensemble, timeout))
        if metrics_port := _beside(port, metrics_port, METRICS_PORT):
            facts = replace(facts, text_cache=examine_text_cache(host, metrics_port, timeout))
        if not facts.silent:
            facts = replace(facts, clock_skew=_clock_skew(server, first, timeout))
            facts = replace(facts, burst=_burst(server, first, burst, timeout) if burst else None)
    without_key = {name: value for name, value in headers.items() if not name.startswith(_KEY_HEADER)}
    with _connected(url, tls, without_key) as stranger:
        facts = replace(facts, open_protocols=_open_protocols(stranger, timeout))
    return replace(
        facts,
        several_servers=_several_servers(url, tls, headers, timeout) if len(facts.addresses) <= 1 else None,
        shared_memory_free=_shared_memory() if facts.local else None,
    )


def _beside(grpc_port: int, chosen: int | None, default: int) -> int:
    """Return the port to examine; 0: no port.

    The default port is examined only if gRPC has its default port. Otherwise, the port may belong to another server.
    """
    if not grpc_port:  # the address is not a TCP address
        return 0
    return chosen if chosen is not None else default if grpc_port == GRPC_PORT else 0


class _Server:
    """A connection to a server for single calls of Triton's gRPC service."""

    def __init__(self, url: str, tls: Tls | None, headers: dict[str, str], **options: int) -> None:
        self.wire = GrpcWire(url, tls, headers, **options)

    def call(self, method: str, message: str, timeout: float, **fields: Any) -> Any:
        """Call a method of Triton's service, and return the response.

        Raises:
            NotAnsweredError: the call failed, or no answer came before the timeout.
        """
        from tritonclient.grpc import service_pb2

        return self.wire.call(method, getattr(service_pb2, message)(**fields), timeout)


@contextmanager
def _connected(url: str, tls: Tls | None, headers: dict[str, str], **options: int) -> Iterator[_Server]:
    server = _Server(url, tls, headers, **options)
    try:
        yield server
    finally:
        server.wire.close()


def _version(server: _Server, timeout: float) -> str | None:
    try:
        return str(server.call("ServerMetadata", "ServerMetadataRequest", timeout).version)
    except NotAnsweredError:  # a proxy may allow nothing but inference
        return None


def _models(server: _Server, timeout: float) -> dict[str, ModelFacts]:
    """Return the facts about each model of the server, by name; empty if the server shows no statistics."""
    try:
        statistics = server.call("ModelStatistics", "ModelStatisticsRequest", timeout).model_stats
    except NotAnsweredError:
        return {}
    return {each.name: _model(server, each, timeout) for each in statistics}


def _model(server: _Server, statistics: Any, timeout: float) -> ModelFacts:
    counted = ModelFacts(
        ready=True,
        requests=statistics.inference_stats.success.count,
        executions=statistics.execution_count,
        items=statistics.inference_count,
    )
    try:
        ready = server.call("ModelReady", "ModelReadyRequest", timeout, name=statistics.name).ready
        config = server.call("ModelConfig", "ModelConfigRequest", timeout, name=statistics.name).config
    except NotAnsweredError:
        return counted
    batching = config.dynamic_batching
    return replace(
        counted,
        ready=ready,
        queue_policy=bool(batching.priority_levels or batching.default_queue_policy.default_timeout_microseconds),
        instances=sum(max(1, group.count) for group in config.instance_group) or 1,
        response_cache=config.response_cache.enable,
    )


def _silent(wire: GrpcWire, models: tuple[str, ...], timeout: float) -> str:
    """Return the reason why a small inference failed; empty if it succeeded."""
    try:
        probe(wire, models=models, timeout=timeout)
    except NotAnsweredError as error:
        return str(error)
    return ""


def _clock_skew(server: _Server, model: str, timeout: float) -> float | None:
    """Return the seconds by which the server's clock is ahead of this machine's; None: unknown.

    The server's clock is read from the time of the last inference in the server's statistics.
    """
    name = full_name(model, "text_embedding")
    try:
        last = earlier = _last_inference(server, name, timeout)
        before = time.time()
        server.wire.infer(name, "text", "猫".encode(), timeout)
        after = time.time()
        for _ in range(_LOOKS):  # the server updates the statistics a moment after the response
            last = _last_inference(server, name, timeout)
            if last != earlier:
                return last - after if last > after else min(0.0, last - before)
            time.sleep(_LOOK_SECONDS)
    except NotAnsweredError:
        pass
    return None


def _last_inference(server: _Server, model: str, timeout: float) -> float:
    """Return the time of a model's last inference by the server's clock, in seconds since 1970; 0 if there was none."""
    statistics = server.call("ModelStatistics", "ModelStatisticsRequest", timeout, name=model).model_stats
    return max((each.last_inference for each in statistics), default=0) / 1e3


def _burst(server: _Server, model: str, requests: int, timeout: float) -> Burst:
    """Send texts at once, each in a separate request, and count the batches of the text encoder."""
    ensemble, encoder = full_name(model, "text_embedding"), full_name(model, "text_encoder")
    salt = time.time_ns()  # makes the texts new, because the server caches the vectors of known texts
    failures = 0
    before, start = server.wire.executions(timeout).get(encoder, 0), time.monotonic()

    def ask(number: int) -> bool:
        try:
            server.wire.infer(ensemble, "text", f"{salt} {number}".encode(), timeout)
        except NotAnsweredError:
            return False
        return True

    with ThreadPoolExecutor(requests) as pool:
        failures = list(pool.map(ask, range(requests))).count(False)
    seconds = time.monotonic() - start
    return Burst(requests, failures, server.wire.executions(timeout).get(encoder, 0) - before, seconds)


def _open_protocols(stranger: _Server, timeout: float) -> tuple[str, ...]:
    """Return the control protocols that answer without the key."""
    found = []
    for protocol, (method, message) in _CONTROL.items():
        try:
            stranger.call(method, message, timeout)
        except NotAnsweredError:
            continue
        found.append(protocol)
    return tuple(found)


def _several_servers(url: str, tls: Tls | None, headers: dict[str, str], timeout: float) -> bool | None:
    """Return whether new connections reach different servers; None: unknown.

    The counters of one server never decrease, so a smaller value comes from another server.
    """
    last = -1
    for number in range(_CONNECTIONS):
        options = {"grpc.use_local_subchannel_pool": 1, "tuwen.connection": number}
        with _connected(url, tls, headers, **options) as server:
            try:
                statistics = server.call("ModelStatistics", "ModelStatisticsRequest", timeout).model_stats
            except NotAnsweredError:
                return None
        now = sum(each.inference_stats.success.count + each.execution_count for each in statistics)
        if now < last:
            return True
        last = now
    return False


def _certificate(host: str, port: int, tls: Tls, timeout: float) -> Certificate | None:
    """Return the facts about the certificate of a server; None: no connection is possible."""
    problem = ""
    for check_name in (True, False):
        try:
            context = ssl.create_default_context(cafile=os.fspath(tls.ca) if tls.ca else None)
            context.check_hostname = check_name
            context.set_alpn_protocols(["h2"])
            if tls.certificate and tls.key:
                context.load_cert_chain(os.fspath(tls.certificate), os.fspath(tls.key))
            with (
                socket.create_connection((host, port), timeout=timeout) as plain,
                context.wrap_socket(plain, server_hostname=tls.server_name or host) as encrypted,
            ):
                found = encrypted.getpeercert() or {}
        except ssl.SSLCertVerificationError as error:
            problem = problem or error.verify_message
            continue
        except ssl.SSLError as error:
            why = "the port does not speak TLS, or refused the certificate of this client"
            return Certificate(problem=problem or f"{why} ({error.reason or error})")
        except OSError:  # no connection, which another check reports
            return Certificate(problem=problem) if problem else None
        expires = ssl.cert_time_to_seconds(str(found["notAfter"]))
        names = tuple(str(entry[1]) for entry in found.get("subjectAltName", ()))
        return Certificate((expires - time.time()) / _DAY, names, problem)
    return Certificate(problem=problem)


def _shared_memory() -> int | None:
    try:
        return shutil.disk_usage("/dev/shm").free
    except OSError:
        return None


def _host_and_port(url: str) -> tuple[str, int]:
    """Return the host and the port of a gRPC target. The host is empty if the target is not a TCP address."""
    from tuwen.connection import channel_target

    target = channel_target(url)
    authority = target.rpartition("/")[2].removeprefix("dns:")
    host, _, port = authority.rpartition(":")
    if not port.isdigit() or target.startswith(("unix", "vsock", "xds")):
        return "", 0
    return host.removeprefix("ipv4:").removeprefix("ipv6:").strip("[]"), int(port)


def _is_local(host: str) -> bool:
    from tuwen.connection import is_loopback

    return not host or is_loopback(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _addresses(host: str, port: int) -> tuple[str, ...]:
    """Return the addresses of a host from this machine's resolver: IPv4 or IPv6, whichever has more.

    A loopback host, such as localhost, counts as one address.
    """
    if not host:
        return ()
    if _is_local(host):
        return (host,)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    families: dict[int, set[str]] = {}
    for family, *_, address in found:
        families.setdefault(family, set()).add(str(address[0]))
    most = max(map(len, families.values()), default=0)
    return next((tuple(sorted(some)) for some in families.values() if len(some) == most), ())
