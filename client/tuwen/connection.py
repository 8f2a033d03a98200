"""The connection to a server: address, encryption, headers and traces of requests, and connection errors."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from tuwen._errors import (
    AccessDeniedError,
    AddressError,
    InvalidArgumentError,
    MissingExtraError,
    ServerError,
    ServerUnavailableError,
)

if TYPE_CHECKING:
    import grpc

__all__ = [
    "AsyncHeaders",
    "Headers",
    "Metadata",
    "NoTracing",
    "OpenTelemetry",
    "Tls",
    "Tracing",
    "bracketed",
    "channel_options",
    "channel_target",
    "checked_headers",
    "connection_error",
    "headers_of",
    "is_loopback",
    "is_own_host",
]

Headers: TypeAlias = Mapping[str, str] | Callable[[], Mapping[str, str]]
"""The headers of every request, or a function that is called for each request, such as one that renews a token."""
AsyncHeaders: TypeAlias = Mapping[str, str] | Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]]
"""The headers of every request of an `AsyncClient`, or a function or coroutine function that returns the headers."""
Metadata: TypeAlias = tuple[tuple[str, str], ...]

_CHANNEL_OPTIONS: list[tuple[str, str | int]] = [
    # gRPC's own limit for received messages is 4 MiB; a batch of photographs is larger.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Pings that gRPC sends to measure the bandwidth have their own timeout, a minute by default, and delay keepalive
    # pings. With the default, a connection that a firewall dropped silently is noticed only after a minute.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # A restarted server is found within a second; by default gRPC waits up to two minutes between attempts.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    # Calls are spread over all addresses of a name, such as a headless Service (dns:///clip.search.svc:8001). By
    # default gRPC sends all calls to the first address that responds.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
]
_OTHER_TARGETS = ("unix:", "unix-abstract:", "vsock:", "ipv4:", "ipv6:", "xds:", "google-c2p:", "passthrough:")
_LARGEST_PORT = 65_535
_TARGET_SCHEME = re.compile(r"^(dns|ipv4|ipv6):(//[^/]*/)?")
_HEADER_NAME = re.compile(r"[0-9A-Za-z_.-]+")
# gRPC sets the first four headers itself and silently drops the caller's values; a header "grpc-status" ends the call.
# HTTP/2 forbids the last five headers (RFC 9113, 8.2.2), and proxies refuse requests that carry them.
_RESERVED_HEADERS = (
    *("content-length", "content-type", "te", "user-agent"),
    *("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"),
)
_RESERVED_PREFIX = "grpc-"


@dataclass(frozen=True)
class Tls:
    """The settings of TLS. If the client has its own certificate, both sides authenticate. All files have PEM format.

    Attributes:
        ca: the file of trusted certificate authorities; None: the authorities that gRPC trusts by default.
        certificate: the file of the client's certificate; None: the client has no certificate.
        key: the file of the private key of `certificate`.
        server_name: the host name in the server's certificate, if it differs from the host name of the address.
    """

    ca: str | os.PathLike[str] | None = None
    certificate: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            given = "certificate" if self.key is None else "key"
            raise InvalidArgumentError(
                f"expected a certificate and its key, got only the {given} (--{given}, TUWEN_{given.upper()})"
            )

    def credentials(self) -> grpc.ChannelCredentials:
        """Return the credentials for gRPC.

        Raises:
            InvalidArgumentError: a file cannot be read.
        """
        import grpc  # noqa: PLC0415 - code that only parses an address does not load gRPC

        return grpc.ssl_channel_credentials(*(_read(path) for path in (self.ca, self.key, self.certificate)))

    def options(self) -> list[tuple[str, str | int]]:
        """Return the options of the gRPC channel that set `server_name`; an empty list without `server_name`."""
        return [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []


class Tracing(Protocol):
    """The tracing of a client's calls."""

    def span(self, call: str, url: str) -> AbstractContextManager[None]:
        """Provide a context in which a call is recorded as a span.

        Args:
            call: the name of the call, such as ``embed``.
            url: the address of the server.
        """

    def headers(self) -> Mapping[str, str]:
        """Return the trace headers of a request."""


class NoTracing:
    """The tracing of a client without tracing: no spans, and no trace headers."""

    def span(self, call: str, url: str) -> AbstractContextManager[None]:  # noqa: ARG002 - a Tracing
        """Provide a context that records nothing."""
        return nullcontext()

    def headers(self) -> Mapping[str, str]:
        """Return an empty mapping, because there are no trace headers."""
        return {}


class OpenTelemetry:
    """Tracing by OpenTelemetry. Without a tracer provider in the application, a span costs almost nothing.

    Raises:
        MissingExtraError: OpenTelemetry's API is not installed.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry import propagate, trace  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtraError(f"tracing needs an extra ({error}): pip install 'tuwen[tracing]'") from error
        self._inject = propagate.inject
        self._tracer = trace.get_tracer("tuwen")
        self._kind = trace.SpanKind.CLIENT

    @contextmanager
    def span(self, call: str, url: str) -> Iterator[None]:
        """Provide a context in which a call is recorded as the current span. An error of the call is recorded, too."""
        attributes = {"server.address": url, "rpc.system": "grpc"}
        with self._tracer.start_as_current_span(f"tuwen.{call}", kind=self._kind, attributes=attributes):
            yield

    def headers(self) -> Mapping[str, str]:
        """Return the headers of the current span: ``traceparent``, and ``tracestate`` if the span has a state."""
        carrier: dict[str, str] = {}
        self._inject(carrier)
        return carrier


def checked_headers(headers: Mapping[str, str]) -> Metadata:
    """Return headers as the metadata of a call, with names in lower case, as HTTP/2 requires (RFC 9113, 8.2).

    Raises:
        InvalidArgumentError: a name or value is invalid in HTTP/2, gRPC reserves a name, or a name is repeated. The
            message shows no values, because they may be secret.
    """
    if not isinstance(headers, Mapping):
        raise InvalidArgumentError(f"expected headers as a mapping of names to values, got {type(headers).__name__}")
    found: dict[str, str] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name) or name.lower().endswith("-bin"):
            raise InvalidArgumentError(
                f"invalid header name {name!r}: use letters, digits, '-', '_' and '.', and not '-bin' at the end"
            )
        if name.lower() in _RESERVED_HEADERS or name.lower().startswith(_RESERVED_PREFIX):
            raise InvalidArgumentError(
                f"the header {name!r} is reserved: gRPC and HTTP/2 set its value; send your value under another name"
            )
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise InvalidArgumentError(f"the value of the header {name!r}: expected only printable ASCII characters")
        if name.lower() in found:
            raise InvalidArgumentError(f"the header {name!r} is given twice, in upper and lower case; remove one")
        found[name.lower()] = value
    return tuple(found.items())


def headers_of(lines: Iterable[str]) -> dict[str, str]:
    """Return headers from lines of the form ``name: value``. Empty lines are ignored.

    Raises:
        InvalidArgumentError: a line has no colon. The message does not show the line, because it may be a secret.
    """
    found = {}
    for line in filter(str.strip, lines):
        name, colon, value = line.partition(":")
        if not colon:
            raise InvalidArgumentError(
                "expected headers as 'name: value', got a line without a colon; check --header and TUWEN_HEADERS"
            )
        found[name.strip().lower()] = value.strip()
    return found


def bracketed(host: str) -> str:
    """Return a host in the form that a port can follow: an IPv6 address in brackets, any other host unchanged."""
    return f"[{host}]" if ":" in host else host


def is_own_host(host: str, names: Collection[str]) -> bool:
    """Return whether the ``Host`` header of a request names this service: an IP address, ``localhost`` or a known name.

    A hostile site can let its own name resolve to this machine (DNS rebinding). The ``Host`` header of such requests
    has the site's name.

    Args:
        host: the value of the header, with or without a port.
        names: the known names of this service besides ``localhost``, in lower case.
    """
    name = host.lower()
    if name.rpartition(":")[2].isdigit() and not name.endswith("]"):
        name = name.rpartition(":")[0]
    if name.rstrip(".") in ("localhost", *names):
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a host is a loopback name or address of this machine. An IPv6 address may have brackets."""
    name = host.removeprefix("[").removesuffix("]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 reserves these names for loopback
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def channel_target(url: str) -> str:
    """Return the gRPC target for a user's address.

    Raises:
        InvalidArgumentError: the address is neither ``host:port`` nor a target such as ``dns:///host:port``. The
            message never shows a user name or a password.
    """
    target = url.strip().removeprefix("grpc://")
    shown = repr(target.rpartition("@")[2])
    scheme, separator, _ = target.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        raise InvalidArgumentError(
            f"{shown} is an HTTP address, and the SDK speaks gRPC; pass host:port without {scheme}://, such as "
            "localhost:8001 (Triton's gRPC port; 8000 is HTTP)"
        )
    if separator and f"{scheme.lower()}:" not in ("dns:", *_OTHER_TARGETS):
        raise InvalidArgumentError(
            f"{shown} begins with {scheme.rpartition('@')[2]}://; pass only host:port, such as localhost:8001"
        )
    if "@" in target:
        raise InvalidArgumentError(f"{shown}: expected no user name or password; send credentials as headers")
    if target.startswith(_OTHER_TARGETS):
        return target
    authority = target.removeprefix("dns:")
    if target.startswith("dns://"):  # dns://DNS_SERVER/host:port
        authority = authority[2:].partition("/")[2]
    if "/" in authority:
        raise InvalidArgumentError(f"{shown} has a path; pass only host:port, such as localhost:8001")
    host, _, port = authority.rpartition(":")
    if not host or (":" in host and not host.startswith("[")):
        raise InvalidArgumentError(f"{shown} has no host or no port; pass host:port, such as localhost:8001")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= _LARGEST_PORT:
        raise InvalidArgumentError(f"{shown}: expected a port from 1 to {_LARGEST_PORT}, got {port!r}")
    return target


def channel_options(target: str, tls: Tls | None = None) -> list[tuple[str, str | int]]:
    """Return the options of a channel to a gRPC target.

    gRPC sends calls through the proxy that ``grpc_proxy``, ``https_proxy`` or ``http_proxy`` names, even to loopback
    addresses. A proxy cannot reach this machine's loopback, so the options turn the proxy off for such targets.

    Args:
        target: the gRPC target.
        tls: the settings of TLS; None: the connection is not encrypted.
    """
    options = [*_CHANNEL_OPTIONS, *(tls.options() if tls else [])]
    addresses = _TARGET_SCHEME.sub("", target)
    if all(is_loopback(address.rpartition(":")[0]) for address in addresses.split(",")):
        options.append(("grpc.enable_http_proxy", 0))
    return options


def _read(path: str | os.PathLike[str] | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgumentError(f"cannot read '{os.fspath(path)}': {error.strerror or error}") from error


# Fragments of gRPC's messages (1.60 to 1.85), the type of the error, and the advice. The first match counts.
_REASONS: Sequence[tuple[tuple[str, ...], type[ServerError], str]] = (
    (
        ("Expected SETTINGS frame", "http1.x server", "Received http2 header with status"),
        AddressError,
        "this port speaks HTTP instead of gRPC; Triton's gRPC port is usually 8001",
    ),
    (
        ("WRONG_VERSION_NUMBER",),
        AddressError,
        "this port does not speak TLS; connect without TLS (omit tls=, --tls and --ca), or use a port with TLS",
    ),
    (
        ("Hostname Verification Check failed",),
        AccessDeniedError,
        "the server's certificate is for another host name; pass Tls(server_name=...) with a name in the certificate",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED",),
        AccessDeniedError,
        "the server's certificate is not trusted; pass Tls(ca=...) (--ca) with the authority that signed it",
    ),
    (
        ("TLSV1_ALERT", "TLSV1_CERTIFICATE_REQUIRED", "SSLV3_ALERT"),
        AccessDeniedError,
        "the server refused the TLS handshake; check Tls(certificate=..., key=...) (--certificate, --key)",
    ),
    (
        ("Domain name not found", "DNS resolution failed", "errors resolving"),
        ServerUnavailableError,
        "the host name cannot be resolved; check its spelling and the DNS",
    ),
    (
        ("Connection refused",),
        ServerUnavailableError,
        "nothing listens at this address; check the port, and whether the server runs",
    ),
    (
        ("Socket closed", "Connection reset"),
        ServerUnavailableError,
        "the server closed the new connection; check that this is its gRPC port (Triton's is usually 8001, and 8000 "
        "is HTTP), and if it uses TLS, pass tls=Tls(...) (--tls), with a certificate if it asks for one",
    ),
)
# Beginnings of messages for a connection that could not be made, as opposed to one that broke during a call.
_NO_CONNECTION = ("connections to all backends failing", "failed to connect to all addresses", "errors resolving")
_ALWAYS = ("DNS resolution failed", "Received http2 header with status")


def connection_error(message: str) -> tuple[type[ServerError], str] | None:
    """Return the type and the message of the error for a failed connection.

    Args:
        message: the details of the gRPC status.

    Returns:
        The type of the error, and its message, which ends with gRPC's message in brackets. None: the call failed for
        another reason than a failed connection.
    """
    if not message.startswith(_NO_CONNECTION) and not any(fragment in message for fragment in _ALWAYS):
        return None
    for fragments, kind, advice in _REASONS:
        if any(fragment in message for fragment in fragments):
            return kind, f"cannot connect: {advice} [{message}]"
    return None
