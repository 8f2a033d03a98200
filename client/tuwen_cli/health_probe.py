"""A health check by a small inference, because a server is "ready" while a model's process hangs.

A program of its own for the pods of a server, which have Python and nothing of tuwen::

    python3 health_probe.py --model b16 --timeout 5 http://localhost:8000

The exit code is 0 for a server that computes. A busy server computes, even if the probe's own requests wait too long:
then the models' counters decide. This module needs the standard library only.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import struct
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

__all__ = ["PROBES", "HttpWire", "NotAnsweredError", "Wire", "probe"]

_PICTURE = base64.b64decode(  # a PNG of 8 by 8 pixels
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGNsaGhgwAaYsIoOWgkAMBcBkGHHl6YAAAAASUVORK5CYII="
)
PROBES: Mapping[str, tuple[str, bytes, tuple[str, ...]]] = {
    "text_embedding": ("text", "猫".encode(), ("text_tokenization", "text_encoder")),
    "image_embedding": ("image", _PICTURE, ("image_preprocessing", "vision_encoder")),
}
"""The models that are asked: the name of the input, an item, and the models that a request passes through."""


_LEAST = 0.05  # seconds for a request
_COUNTERS = 1.0  # seconds to read the counters when the time is over


class NotAnsweredError(Exception):
    """The server did not compute what was asked; the message says why."""


class Wire(Protocol):
    """The connection of a probe to a server."""

    def check_ready(self, timeout: float) -> None:
        """Ask whether the server is ready.

        Raises:
            NotAnsweredError: the server is not ready, or does not respond.
        """

    def infer(self, model: str, input_name: str, item: bytes, timeout: float) -> None:
        """Compute one embedding.

        Raises:
            NotAnsweredError: no embedding came before the timeout, in seconds.
        """

    def executions(self, timeout: float) -> dict[str, int]:
        """Return the number of batches that each model has computed; empty if the server does not tell."""


def probe(wire: Wire, *, models: tuple[str, ...] = ("",), timeout: float = 5.0) -> None:
    """Let a server compute an embedding of a text and of an image with each model.

    Args:
        models: the names of the repositories, as `tuwen build --name` gives them; empty: the one without a name.
        timeout: seconds for all together. It must be longer than the slowest batch.

    Raises:
        NotAnsweredError: the server is not ready, or a model computed nothing in its part of the time.
    """
    end = time.monotonic() + timeout
    wire.check_ready(timeout)
    asked = [(f"{name}_" if name else "", kind) for name in models for kind in PROBES]
    for position, (prefix, kind) in enumerate(asked):
        input_name, item, steps = PROBES[kind]
        before = wire.executions(max(_LEAST, end - time.monotonic()))
        share = max(_LEAST, (end - time.monotonic()) / (len(asked) - position))
        try:
            wire.infer(prefix + kind, input_name, item, share)
        except NotAnsweredError as error:
            after = wire.executions(_COUNTERS)
            idle = [prefix + step for step in steps if after.get(prefix + step, 0) <= before.get(prefix + step, 0)]
            if idle:
                raise NotAnsweredError(
                    f"{prefix}{kind} gave no embedding ({error}), and meanwhile nothing was computed by "
                    f"{' and '.join(idle)}"
                ) from error


class HttpWire:
    """Triton's HTTP port. Each call makes a connection of its own.

    Args:
        url: such as ``http://localhost:8000``.
        headers: sent with each request, such as the key of restricted protocols.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        self._encrypted, self._host, self._headers = parts.scheme == "https", parts.netloc, dict(headers or {})

    def check_ready(self, timeout: float) -> None:
        """See `Wire.check_ready`."""
        self._call("GET", "/v2/health/ready", timeout)

    def infer(self, model: str, input_name: str, item: bytes, timeout: float) -> None:
        """See `Wire.infer`."""
        raw = struct.pack("<I", len(item)) + item
        size = {"binary_data_size": len(raw)}
        head = json.dumps(
            {
                "inputs": [{"name": input_name, "shape": [1, 1], "datatype": "BYTES", "parameters": size}],
                "outputs": [{"name": "embedding"}],
                "parameters": {"timeout": max(1, int(timeout * 1e6))},
            }
        ).encode()
        headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
        self._call("POST", f"/v2/models/{model}/infer", timeout, head + raw, headers)

    def executions(self, timeout: float) -> dict[str, int]:
        """See `Wire.executions`."""
        try:
            found = json.loads(self._call("GET", "/v2/models/stats", timeout))
        except (NotAnsweredError, ValueError):
            return {}
        return {model["name"]: model["execution_count"] for model in found["model_stats"]}

    def _call(
        self,
        method: str,
        path: str,
        timeout: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        kind: Any = http.client.HTTPSConnection if self._encrypted else http.client.HTTPConnection
        connection = kind(self._host, timeout=max(_LEAST, timeout))
        try:
            connection.request(method, path, body, {**self._headers, **(headers or {})})
            response = connection.getresponse()
            content: bytes = response.read()
        except (OSError, http.client.HTTPException) as error:
            why = f"no answer within {timeout:.1f} s" if isinstance(error, TimeoutError) else str(error) or repr(error)
            raise NotAnsweredError(f"{path}: {why}") from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            said = content.decode("utf-8", "replace").strip()[:200]
            raise NotAnsweredError(f"{path}: expected status 200, got {response.status} {said}".rstrip())
        return content


def _main() -> int:
    parser = argparse.ArgumentParser(description="Exit with 0 if a server computes embeddings, and with 1 if it hangs.")
    parser.add_argument("url", help="address of Triton's HTTP port, such as http://localhost:8000")
    parser.add_argument("--model", action="append", help="name of a repository; repeat for more")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds for all requests together")
    parser.add_argument("--key-variable", default="RESTRICTED_KEY", help="environment variable with the server's key")
    given = parser.parse_args()
    key = os.environ.get(given.key_variable)
    try:
        wire = HttpWire(given.url, {"tuwen": key} if key else {})
        probe(wire, models=tuple(given.model or [""]), timeout=given.timeout)
    except NotAnsweredError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
