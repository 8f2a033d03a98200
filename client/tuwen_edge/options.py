"""The options of the HTTP edge. This module imports quickly, because the command line reads its dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tuwen import InvalidArgumentError, Tls
from tuwen.connection import is_loopback
from tuwen_options import TIMEOUT, Option, check_values, documented

__all__ = ["KEYS", "EdgeOptions"]

KEYS = Option(
    "File with the hash of an API key in each line, from `tuwen edge-key`. A changed file is read again. Default: "
    "no key is required.",
    flags=("--keys",),
    envvar="TUWEN_EDGE_KEYS",
)
"""The option ``--keys``, which `tuwen edge` and `tuwen serve` share."""


@documented
@dataclass(frozen=True)
class EdgeOptions:
    """The addresses, access rules and limits of the HTTP edge.

    ``tls`` and ``headers`` belong to the connection to the embedding server, as in `tuwen.Client`.
    """

    url: Annotated[
        str,
        Option(
            "host:port of the server's gRPC endpoint, or a DNS name of several servers, such as "
            "dns:///clip-headless:8001.",
            positional=True,
            envvar="TUWEN_URL",
        ),
    ] = "localhost:8001"
    host: Annotated[str, Option("Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Option("Port to listen on. 0 takes a free port.", min=0, max=65535)] = 8080
    model: Annotated[
        str,
        Option(
            "Name of the server's model that answers requests which name no model. Requests choose the other models of "
            "the server by their names. Default: the model that has no name, or the only model.",
            flags=("--model",),
            envvar="TUWEN_MODEL",
            show_default=False,
        ),
    ] = ""
    timeout: Annotated[float, TIMEOUT] = 30.0
    keys: Annotated[Path | None, KEYS] = None
    model_name: Annotated[
        str | None,
        Option("Name of the model in requests and responses. Default: the last part of the checkpoint's name."),
    ] = None
    aliases: Annotated[
        tuple[str, ...],
        Option(
            "Additional name of the model, such as text-embedding-3-small. '*' allows every name. Repeat for more.",
            flags=("--alias",),
        ),
    ] = ()
    fingerprint: Annotated[
        str | None,
        Option(
            "Fingerprint of the embedding space that the server must have. Default: the fingerprint in the server's "
            "first response."
        ),
    ] = None
    allowed_hosts: Annotated[
        tuple[str, ...],
        Option(
            "Name under which callers reach the edge, such as a proxy's name. '*' allows every name. IP addresses, "
            "localhost and the address of --host are always allowed. With --keys, the default is every name. Repeat "
            "for more.",
            flags=("--allowed-host",),
        ),
    ] = ()
    fetch_hosts: Annotated[
        tuple[str, ...],
        Option(
            "Host from which images at web addresses are fetched, such as img.example.com or *.example.com. Repeat "
            "for more. Default: no host.",
            flags=("--fetch-host",),
        ),
    ] = ()
    allowed_origins: Annotated[
        tuple[str, ...],
        Option(
            "Origin of web pages whose scripts may call the edge (CORS), such as https://example.com. Repeat for "
            "more. Default: no origin.",
            flags=("--allow-origin",),
        ),
    ] = ()
    max_body_mib: Annotated[int, Option("Maximum size in MiB of a request's body.", min=1, max=1024)] = 64
    max_memory_mib: Annotated[
        int, Option("Maximum size in MiB of all bodies in memory. Further requests get status 429.", min=1)
    ] = 512
    max_items: Annotated[int, Option("Maximum number of texts and images per request.", min=1)] = 2048
    max_pixels: Annotated[
        int, Option("Maximum number of pixels of an image in a form, checked while the image arrives.", min=1)
    ] = 64_000_000
    max_connections: Annotated[
        int,
        Option(
            "Maximum number of connections. Beyond this number, a new connection closes the connection that was "
            "silent longest.",
            min=1,
        ),
    ] = 4096
    upload_timeout: Annotated[
        float, Option("Maximum time in seconds for the body of a request to arrive.", above=0)
    ] = 60.0
    drain_timeout: Annotated[
        int, Option("Maximum time in seconds to finish requests in flight when the edge stops.", min=0, max=86_400)
    ] = 30
    tracing: Annotated[
        bool,
        Option("Record a span for each request in the caller's OpenTelemetry trace. Needs the extra tuwen[tracing]."),
    ] = False
    access_log: Annotated[
        bool,
        Option("Write a line of JSON for each request to standard error.", flags=("--access-log/--no-access-log",)),
    ] = True
    tls: Tls | None = None
    headers: dict[str, str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_values(self)
        object.__setattr__(self, "host", self.host.removeprefix("[").removesuffix("]"))
        for name in ("aliases", "allowed_hosts", "fetch_hosts", "allowed_origins"):
            if not all(getattr(self, name)):
                raise InvalidArgumentError(f"{name}: expected names, got an empty text")
        if self.max_memory_mib < self.max_body_mib:
            raise InvalidArgumentError(
                f"max_memory_mib: expected at least max_body_mib ({self.max_body_mib}), got {self.max_memory_mib}"
            )

    @property
    def exposed(self) -> bool:
        """Whether other machines may reach the edge."""
        return not is_loopback(self.host)
