"""The facts that `tuwen doctor` collects about a running server before it judges them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Burst", "Certificate", "Facts", "HttpFacts", "ModelFacts", "TextCache"]


@dataclass(frozen=True)
class ModelFacts:
    """The facts about one Triton model of a server.

    Attributes:
        ready: whether the server says that the model is ready.
        queue_policy: whether the model's batcher has priorities or a time limit.
        instances: the number of the model's instances.
        response_cache: whether Triton's response cache is on.
        requests, executions, items: the numbers of requests, batches and items since the model was loaded.
    """

    ready: bool
    queue_policy: bool = False
    instances: int = 1
    response_cache: bool = False
    requests: int = 0
    executions: int = 0
    items: int = 0


@dataclass(frozen=True)
class Certificate:
    """The certificate of a server.

    Attributes:
        days_left: the days until the certificate expires; negative after that; None: unknown.
        names: the host names in the certificate.
        problem: the reason why the connection was refused; empty if the certificate is valid.
    """

    days_left: float | None = None
    names: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Burst:
    """The results of simultaneous requests, each with one text.

    Attributes:
        requests: the number of requests.
        failures: the number of requests that failed.
        batches: the number of batches that the text encoder computed during the requests.
        seconds: the time in seconds until the last response.
    """

    requests: int
    failures: int
    batches: int
    seconds: float


@dataclass(frozen=True)
class HttpFacts:
    """The facts about Triton's HTTP API, as a caller without the key sees them.

    Attributes:
        port: the port of the API.
        is_open: whether this machine can connect to the port.
        inference: whether the API answers inference requests without the key.
        open_protocols: the control protocols that the API answers without the key.
    """

    port: int
    is_open: bool
    inference: bool = False
    open_protocols: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextCache:
    """The counters of the cache of text vectors, since the start of the server.

    Attributes:
        hits: the number of texts whose vector was in the cache.
        misses: the number of texts whose vector was computed.
    """

    hits: int
    misses: int


@dataclass(frozen=True)
class Facts:
    """All facts about a server. None: the fact is unknown.

    Attributes:
        url: the address of the server.
        local: whether the address belongs to this machine.
        encrypted: whether the connection is encrypted.
        unreachable: the error of the first call; empty if the server answered.
        ready: whether the server says that it is ready.
        version: the version of Triton, such as ``2.75.0``.
        models: the facts about each model, by name.
        silent: the reason why a small inference failed; empty if it succeeded.
        clock_skew: the seconds by which the server's clock is ahead of this machine's clock.
        open_protocols: the control protocols that answer without a key.
        addresses: the IP addresses of the host; for a host that is an IP address, this address.
        is_name: whether the host is a name instead of an IP address.
        several_servers: whether connections to a single address reach different servers.
        shared_memory_free: the number of free bytes in /dev/shm of this machine.
        certificate: the certificate of the server, if the connection is encrypted.
        burst: the results of simultaneous requests, if they were requested.
        http: the facts about the HTTP API, if its port was examined.
        text_cache: the counters of the cache of text vectors, if the server shows these counters.
    """

    url: str
    local: bool = False
    encrypted: bool = False
    unreachable: str = ""
    ready: bool = True
    version: str | None = None
    models: Mapping[str, ModelFacts] = field(default_factory=dict)
    silent: str = ""
    clock_skew: float | None = None
    open_protocols: tuple[str, ...] | None = None
    addresses: tuple[str, ...] = ()
    is_name: bool = False
    several_servers: bool | None = None
    shared_memory_free: int | None = None
    certificate: Certificate | None = None
    burst: Burst | None = None
    http: HttpFacts | None = None
    text_cache: TextCache | None = None
