"""The connection settings of the load generator's processes.

The settings are passed in the environment variables that the program `tuwen` reads. A secret in the arguments of Locust
would be visible in every list of processes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from tuwen import Client, RetryPolicy, Tls
from tuwen.connection import headers_of

__all__ = ["Connection"]

_FILES = {"ca": "TUWEN_CA", "certificate": "TUWEN_CERTIFICATE", "key": "TUWEN_KEY"}


@dataclass(frozen=True)
class Connection:
    """The address and the credentials of a server.

    Attributes:
        url: the address of the gRPC endpoint, such as ``localhost:8001``.
        tls: the encryption settings; None means no encryption.
        headers: the headers of every request. They are not shown in `repr`.
        model: the name of the model on a server with several models; empty: the server has one model.
    """

    url: str
    tls: Tls | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    model: str = ""

    @classmethod
    def from_environment(cls, url: str) -> Connection:
        """Return the connection that the environment variables of the command line describe.

        The variables are ``TUWEN_TLS``, ``TUWEN_CA``, ``TUWEN_CERTIFICATE``, ``TUWEN_KEY``, ``TUWEN_HEADERS`` and
        ``TUWEN_MODEL``.

        Raises:
            InvalidArgumentError: a header has no colon.
        """
        ca, certificate, key = (os.environ.get(variable) or None for variable in _FILES.values())
        headers = headers_of(os.environ.get("TUWEN_HEADERS", "").splitlines())
        encrypted = ca or certificate or key or os.environ.get("TUWEN_TLS")
        tls = Tls(ca, certificate, key) if encrypted else None
        return cls(url, tls, headers, os.environ.get("TUWEN_MODEL", ""))

    def to_environment(self) -> dict[str, str]:
        """Return the environment variables from which `from_environment` reads this connection."""
        headers = "\n".join(f"{name}: {value}" for name, value in self.headers.items())
        variables = {"TUWEN_HEADERS": headers, "TUWEN_MODEL": self.model}
        if self.tls:
            variables["TUWEN_TLS"] = "1"
            found = {variable: getattr(self.tls, name) for name, variable in _FILES.items()}
            variables |= {variable: os.fspath(path) for variable, path in found.items() if path is not None}
        return variables

    def client(self, timeout: float, attempts: int = 1) -> Client:
        """Return a client of the server.

        Args:
            timeout: the deadline of a call in seconds.
            attempts: the maximum number of attempts of a call. With the default of 1, every refusal is counted.
        """
        retries = RetryPolicy(attempts=attempts)
        return Client(
            self.url,
            model=self.model,
            timeout=timeout,
            tls=self.tls,
            headers=self.headers,
            retries=retries,
            remembered_texts=0,
        )
