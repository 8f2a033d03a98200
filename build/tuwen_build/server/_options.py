"""What a user may choose about the embedded server, validated once."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from pathlib import Path

from tuwen import InvalidArgumentError
from tuwen_build.errors import PortTakenError

__all__ = ["ServerOptions"]


@dataclass(frozen=True)
class ServerOptions:
    """How the embedded server listens, starts and stops.

    Attributes:
        host: the address that all three ports listen on. Loopback by default: the server has no password.
        http_port, grpc_port, metrics_port: 0 takes a free one.
        ready_timeout: seconds until every model must be loaded and warmed up.
        drain_timeout: seconds that requests in flight get when the server stops.
        cache_mib: memory for the vectors of texts that are asked for again; 0 keeps none.
        log_file: where tritonserver's log goes, besides the log callback.
    """

    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    ready_timeout: float = 300.0
    drain_timeout: int = 30
    cache_mib: int = 64
    log_file: Path | None = None

    def __post_init__(self) -> None:
        for name, port in self.ports.items():
            if not 0 <= port <= 65535:
                raise InvalidArgumentError(f"the {name} port must be from 0 (a free one) to 65535, not {port}")
        fixed = [port for port in self.ports.values() if port]
        if len(set(fixed)) < len(fixed):
            raise InvalidArgumentError(f"the ports must differ: {self.ports}")
        if self.ready_timeout <= 0 or self.drain_timeout < 0:
            raise InvalidArgumentError("the ready timeout must be positive, the drain timeout at least 0 seconds")
        if self.cache_mib < 0:
            raise InvalidArgumentError(f"the cache has 0 MiB or more, not {self.cache_mib}")

    @classmethod
    def on_free_ports(cls) -> ServerOptions:
        """Options for a server beside others, as in tests."""
        return cls(http_port=0, grpc_port=0, metrics_port=0)

    @property
    def ports(self) -> dict[str, int]:
        """The ports by protocol."""
        return {"HTTP": self.http_port, "gRPC": self.grpc_port, "metrics": self.metrics_port}

    @property
    def reachable_host(self) -> str:
        """An address of this machine at which the server answers."""
        return "127.0.0.1" if self.host in ("", "0.0.0.0") else self.host  # noqa: S104 - compared, not bound

    def with_ports_resolved(self) -> ServerOptions:
        """These options with a free port for every 0, and the given ones checked.

        Raises:
            PortTakenError: a given port is in use.
        """
        sockets = []
        try:
            for protocol, port in self.ports.items():
                listener = socket.socket()
                sockets.append(listener)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    listener.bind((self.host, port))
                except OSError as error:
                    raise PortTakenError(
                        f"cannot listen on {self.host}:{port} for {protocol}: {error.strerror}; choose another port, "
                        "or 0 for a free one"
                    ) from None
            http, grpc, metrics = (listener.getsockname()[1] for listener in sockets)
        finally:
            for listener in sockets:
                listener.close()
        return replace(self, http_port=http, grpc_port=grpc, metrics_port=metrics)
