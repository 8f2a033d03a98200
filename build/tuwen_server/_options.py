"""What a user may choose about the embedded server, validated once."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path

from tuwen import InvalidArgumentError
from tuwen.addresses import bracketed, is_loopback
from tuwen_server.errors import PortTakenError

__all__ = ["ServerOptions"]

_LOOPBACK = "127.0.0.1"
_REACHABLE = {"": _LOOPBACK, "0.0.0.0": _LOOPBACK, "::": "::1"}  # noqa: S104 - compared, not bound
_LONGEST_DRAIN = 1_000_000  # seconds; Triton takes a 32-bit integer
_LARGEST_CACHE = 1 << 30  # MiB, a pebibyte; Triton takes bytes as a 64-bit integer
_OURS = {
    "--model-repository",
    "--backend-directory",
    "--model-control-mode",
    "--cache-config",
    "--exit-timeout-secs",
    "--grpc-restricted-protocol",
    "--http-restricted-api",
    *(f"--{protocol}-{part}" for protocol in ("http", "grpc", "metrics") for part in ("address", "port")),
}


@dataclass(frozen=True)
class ServerOptions:
    """How the embedded server listens, starts and stops.

    Attributes:
        host: the address that gRPC and the metrics listen on, for IPv6 with or without brackets. Loopback by default:
            the server has no password.
        http_port, grpc_port, metrics_port: 0 takes a free one.
        ready_timeout: seconds until every model must be loaded and warmed up.
        drain_timeout: seconds that requests in flight get when the server stops.
        silence: seconds without an answer after which a running server is in trouble.
        cache_mib: memory in MiB for the vectors of the texts that were asked for last; 0: no vector is kept. The
            instances of the text encoder share it.
        http_inference: allow inference and metadata over HTTP as well, and let HTTP listen on `host`. Off by default:
            HTTP then listens on loopback and answers health checks alone, because one malformed HTTP request ends
            Triton 2.51 (CVE-2025-23310, NVIDIA security bulletin of August 2025).
        queue_policies: serve with the queue policies and priorities of the built configurations, as NVIDIA's container
            does. Off by default: with them, requests that arrive at once wait up to 500 ms for nothing on Triton 2.51.
        key: what a request must carry, as ``triton-grpc-protocol-tuwen``, that loads or unloads models, registers
            shared memory, or changes tracing and logging; None: nobody may.
        check_files: read every file before it is served, to see whether it is what was built.
        log_file: where tritonserver's log goes, besides the log callback.
        arguments: more of tritonserver's own, such as ``--trace-config=mode=opentelemetry``.
    """

    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    ready_timeout: float = 300.0
    drain_timeout: int = 30
    silence: float = 60.0
    cache_mib: int = 64
    check_files: bool = True
    http_inference: bool = False
    queue_policies: bool = False
    key: str | None = field(default=None, repr=False)
    log_file: Path | None = None
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", self.host.removeprefix("[").removesuffix("]"))
        for name, port in self.ports.items():
            if not 0 <= port <= 65535:
                raise InvalidArgumentError(f"the {name} port must be from 0 (a free one) to 65535, not {port}")
        fixed = [port for port in self.ports.values() if port]
        if len(set(fixed)) < len(fixed):
            raise InvalidArgumentError(f"the ports must differ: {self.ports}")
        if not (0 < self.ready_timeout < inf and 0 < self.silence < inf and 0 <= self.drain_timeout <= _LONGEST_DRAIN):
            raise InvalidArgumentError(
                "the ready timeout and the silence must be positive and finite, the drain timeout at least 0 and at "
                f"most {_LONGEST_DRAIN} s"
            )
        if not 0 <= self.cache_mib <= _LARGEST_CACHE:
            raise InvalidArgumentError(f"the cache has 0 MiB or more, at most {_LARGEST_CACHE}, not {self.cache_mib}")
        if self.key is not None and not re.fullmatch(r"[\w.-]{16,}", self.key, re.ASCII):
            raise InvalidArgumentError("the key has at least 16 letters, digits, '-', '_' or '.'")
        for argument in self.arguments:
            name = argument.partition("=")[0]
            if not name.startswith("--"):
                raise InvalidArgumentError(f"{argument!r} is no argument of tritonserver's, such as --log-verbose=1")
            if name in _OURS:
                raise InvalidArgumentError(f"{name} is set by tuwen itself: use its own options")

    @classmethod
    def on_free_ports(cls) -> ServerOptions:
        """Options for a server beside others, as in tests."""
        return cls(http_port=0, grpc_port=0, metrics_port=0)

    @property
    def ports(self) -> dict[str, int]:
        """The ports by protocol."""
        return {"HTTP": self.http_port, "gRPC": self.grpc_port, "metrics": self.metrics_port}

    @property
    def http_host(self) -> str:
        """The address that HTTP listens on."""
        return self.host if self.http_inference else _LOOPBACK

    @property
    def reachable_host(self) -> str:
        """An address of this machine at which the server answers gRPC and metrics requests; IPv6 in brackets."""
        return _reachable(self.host)

    @property
    def reachable_http_host(self) -> str:
        """An address of this machine at which the server answers HTTP requests; IPv6 in brackets."""
        return _reachable(self.http_host)

    @property
    def exposed(self) -> bool:
        """Whether other machines may reach the server."""
        return not is_loopback(self.host)

    def with_ports_resolved(self) -> ServerOptions:
        """These options with a free port for every 0, and the given ones checked.

        Raises:
            PortTakenError: a given port is in use.
        """
        sockets = []
        try:
            for protocol, port in self.ports.items():
                host = self.http_host if protocol == "HTTP" else self.host
                listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
                sockets.append(listener)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    listener.bind((host, port))
                except (OSError, UnicodeError) as error:  # a UnicodeError: the host is too long for a name
                    why = getattr(error, "strerror", None) or error
                    raise PortTakenError(
                        f"cannot listen on {bracketed(host)}:{port} for {protocol}: {why}; choose another port, "
                        "or 0 for a free one"
                    ) from None
            http, grpc, metrics = (listener.getsockname()[1] for listener in sockets)
        finally:
            for listener in sockets:
                listener.close()
        return replace(self, http_port=http, grpc_port=grpc, metrics_port=metrics)


def _reachable(address: str) -> str:
    return bracketed(_REACHABLE.get(address, address))
