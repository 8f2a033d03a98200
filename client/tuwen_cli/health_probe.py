"""A health check by a small inference, because a server reports ready even if a model's process hangs.

A busy server passes the check, too. If the small inference gets no answer in time, the server passes as long as each
model on its path finished other batches meanwhile. The pods of the Helm chart do not contain tuwen. There,
`docker/kubernetes/files/probe.py` does the same check over HTTP.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Protocol

from tuwen.model_names import STEPS, full_name, names_in

__all__ = ["PROBES", "NotAnsweredError", "Wire", "probe"]

_PICTURE = base64.b64decode(  # a PNG of 8 by 8 pixels
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGNsaGhgwAaYsIoOWgkAMBcBkGHHl6YAAAAASUVORK5CYII="
)
PROBES: Mapping[str, tuple[str, bytes]] = {
    "text_embedding": ("text", "猫".encode()),
    "image_embedding": ("image", _PICTURE),
}
"""The models that the probe calls, each with the name of the input and an item."""

_LEAST = 0.05  # minimum time in seconds for one request
_COUNTERS = 1.0  # time in seconds to read the counters after the time limit


class NotAnsweredError(Exception):
    """The server did not compute the requested embedding; the message states the reason."""


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
            NotAnsweredError: no embedding came within `timeout` seconds.
        """

    def executions(self, timeout: float) -> dict[str, int]:
        """Return the number of batches that each model has computed; empty if the server reports no such numbers."""


def probe(wire: Wire, *, models: tuple[str, ...] = (), timeout: float = 5.0) -> None:
    """Let a server compute an embedding of a text and of an image with each model.

    Args:
        models: the names of the repositories from `tuwen build --name`; an empty text stands for the repository without
            a name. No names: all repositories of the server.
        timeout: the maximum time in seconds for all requests together. It must be longer than the slowest batch.

    Raises:
        NotAnsweredError: the server is not ready, or an embedding did not arrive while one of its models computed
            nothing.
    """
    end = time.monotonic() + timeout
    wire.check_ready(timeout)
    names = models or tuple(names_in(wire.executions(timeout))) or ("",)
    asked = [(name, kind) for name in names for kind in PROBES]
    for position, (name, kind) in enumerate(asked):
        before = wire.executions(max(_LEAST, end - time.monotonic()))
        share = max(_LEAST, (end - time.monotonic()) / (len(asked) - position))
        try:
            wire.infer(full_name(name, kind), *PROBES[kind], share)
        except NotAnsweredError as error:
            after = wire.executions(_COUNTERS)
            steps = [full_name(name, step) for step in STEPS[kind]]
            idle = [step for step in steps if after.get(step, 0) <= before.get(step, 0)]
            if idle:
                raise NotAnsweredError(
                    f"{full_name(name, kind)} returned no embedding ({error}), and {' and '.join(idle)} "
                    "computed nothing while the request waited"
                ) from error
