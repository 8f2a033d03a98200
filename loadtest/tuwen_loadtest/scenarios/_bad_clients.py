"""A scenario with clients on slow connections and clients that disconnect, beside ordinary clients."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

from tuwen import Client, InvalidArgumentError, RetryPolicy, TuwenError
from tuwen_loadtest._phases import Phases
from tuwen_loadtest._target import Target
from tuwen_loadtest._verdict import Finding
from tuwen_loadtest.scenarios._relay import Relay
from tuwen_loadtest.scenarios._scenario import Scenario
from tuwen_server.traffic import photographs

__all__ = ["BAD_CLIENTS"]

_SLOW = 8
_BYTES_A_SECOND = 50_000.0
_VANISHING = 0.1  # the rate of clients that disconnect, as a share of the capacity
_SLOWER = 2.0
_ONCE = RetryPolicy(attempts=1)


def _make_trouble(target: Target, seconds: float, capacity: float) -> None:
    """Send requests as bad clients do, for some seconds.

    Args:
        target: the target of the load test.
        seconds: the duration.
        capacity: the capacity of the target in requests per second.

    Raises:
        InvalidArgumentError: the connection is encrypted, or has several addresses.
    """
    host, _, port = target.connection.url.rpartition(":")
    if target.connection.tls or not port.isdecimal() or ":" in host:
        got = target.connection.url + (" with TLS" if target.connection.tls else "")
        raise InvalidArgumentError(f"scenario bad-clients: expected one host:port without TLS, got {got}")
    [large], [usual] = photographs(1, size=(4032, 3024)), photographs(1)
    end = time.monotonic() + seconds

    def ask(relay: Relay, picture: bytes) -> None:
        left = max(1.0, end - time.monotonic())
        with (
            suppress(TuwenError),
            Client(relay.url, headers=target.connection.headers, timeout=left, retries=_ONCE) as clip,
        ):
            clip.embed_images([picture])

    with ExitStack() as stack, ThreadPoolExecutor(_SLOW + 1) as pool:
        for _ in range(_SLOW):
            pool.submit(ask, stack.enter_context(Relay(host, int(port), bytes_a_second=_BYTES_A_SECOND)), large)
        while time.monotonic() < end:
            with Relay(host, int(port)) as relay:
                pool.submit(ask, relay, usual)
                time.sleep(random.expovariate(_VANISHING * capacity))
                relay.cut()


def _findings(phases: Phases, capacity: float) -> Sequence[Finding]:  # noqa: ARG001 - whatever it is
    """Check that the ordinary clients lose no requests, and that their p99 at most doubles."""
    found = phases.trouble
    slower = found.latencies["p99"] / phases.before.latencies["p99"]
    return [
        Finding(
            f"requests that other clients lost: {found.lost} of {found.requests} (allowed: none)",
            found.requests > 0 and found.lost == 0,
        ),
        Finding(
            f"p99 of other clients: {slower:.1f} times the p99 before (allowed: at most {_SLOWER:g})", slower <= _SLOWER
        ),
    ]


BAD_CLIENTS = Scenario(_findings, _make_trouble)
"""The scenario with bad clients. Ordinary users send half of the capacity all the time. In the middle third, eight
clients send large pictures at 50 kB per second. Other clients send a tenth of the capacity, and disconnect before the
answer."""
