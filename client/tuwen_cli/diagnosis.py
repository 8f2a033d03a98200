"""Findings from facts about a running server. Each finding has a severity, a meaning and a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tuwen_cli.facts import Facts
from tuwen_cli.security_floor import outdated, version_parts

__all__ = ["Finding", "findings_of"]

Severity = Literal["error", "warning", "note", "ok"]
"""``error``: calls fail, or other people can harm the server. ``warning``: the server is slow or at risk. ``note``: a
fact that is worth knowing, or that could not be checked. ``ok``: the check found no problem."""

_QUEUES_MENDED = (2, 73)  # fixed by triton-inference-server/core#509
_DEAD_PROCESSES_SEEN = (2, 68)  # fixed by triton-inference-server/core#473
_CLOCK_WARNING, _CLOCK_ERROR = 1.0, 10.0  # seconds; a request states when it was sent, and waits at most 30 s
_CERTIFICATE_WARNING = 14  # days
_LITTLE_SHARED_MEMORY = 256 << 20
_ENOUGH_REQUESTS = 1_000
_FEW_HITS = 0.05  # minimum share of cached texts at which the cache of text vectors is useful
_ENCODERS = ("vision_encoder", "text_encoder")
_RESTRICTIONS = "start the server with --grpc-restricted-protocol, as `tuwen serve` and the images do"
_HTTP_RESTRICTIONS = "start the server with --http-restricted-api, as `tuwen serve` and the images do"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: the name of the check as one word for programs, such as ``clock``.
        severity: how bad the finding is, as `Severity` explains.
        message: one sentence with the fact and its meaning.
        remedy: the action that helps; empty if no action is needed.
    """

    check: str
    severity: Severity
    message: str
    remedy: str = ""


def findings_of(facts: Facts) -> list[Finding]:
    """Return the findings about a server, in the order of the checks."""
    if facts.unreachable:
        remedy = "check the address and the port, whether the server runs, and whether the server needs --tls or --ca"
        found = [Finding("connection", "error", f"no answer from {facts.url}: {facts.unreachable}", remedy)]
        return found + list(_certificate(facts))
    checks = (
        *(_ready, _inference, _version, _queues, _dead_processes, _control, _http, _encryption, _certificate, _clock),
        *(_connections, _shared_memory, _cache, _text_cache, _batches, _burst),
    )
    return [finding for check in checks for finding in check(facts)]


def _ready(facts: Facts) -> Iterator[Finding]:
    waiting = sorted(name for name, model in facts.models.items() if not model.ready)
    if not facts.ready or waiting:
        named = f": {', '.join(waiting)}" if waiting else ""
        remedy = "wait until the models are loaded; if they do not become ready, read the server's log"
        yield Finding("ready", "error", f"the server has models that are not ready{named}", remedy)
    else:
        yield Finding("ready", "ok", "the server says that it is ready")


def _inference(facts: Facts) -> Iterator[Finding]:
    if facts.silent:
        remedy = (
            "read the server's log; if a process hangs, restart the server. `tuwen probe` is the same check for pods"
        )
        yield Finding("inference", "error", f"a small inference failed: {facts.silent}", remedy)
    else:
        yield Finding("inference", "ok", "a text and an image were embedded")


def _version(facts: Facts) -> Iterator[Finding]:
    if facts.version is None:
        yield Finding("version", "note", "the server does not tell its version, so its vulnerabilities are unknown")
    elif warning := outdated(facts.version):
        what, _, remedy = warning.partition(": ")
        yield Finding("version", "warning" if facts.local else "error", what, remedy)
    else:
        yield Finding("version", "ok", f"Triton {facts.version} has the fixes of all known bulletins")


def _queues(facts: Facts) -> Iterator[Finding]:
    policies = sorted(name for name, model in facts.models.items() if model.queue_policy)
    version = version_parts(facts.version or "")
    if not policies or version is None:
        return
    if version >= _QUEUES_MENDED:
        yield Finding("queues", "ok", "this version of Triton serves queues with policies without a delay")
        return
    remedy = "use release 26.09 or newer; `tuwen serve` removes the policies unless --queue-policies is given"
    yield Finding(
        "queues",
        "warning",
        f"Triton {facts.version} can leave requests in a queue with a policy for up to 500 ms although the model is "
        f"free: {', '.join(policies)}",
        remedy,
    )
    several = [name for name in policies if facts.models[name].instances > 1]
    if several:
        message = f"models with several instances and a queue policy slowly lose throughput:  {', '.join(several)}"
        yield Finding("instances", "warning", message, "use one instance, or release 26.09 or newer")


def _dead_processes(facts: Facts) -> Iterator[Finding]:
    version = version_parts(facts.version or "")
    if version is not None and version < _DEAD_PROCESSES_SEEN:
        remedy = "use `tuwen probe` as the health check; `tuwen serve` watches the processes itself"
        message = f"Triton {facts.version} says that it is ready although the process of a model died"
        yield Finding("processes", "note", message, remedy)


def _control(facts: Facts) -> Iterator[Finding]:
    if facts.open_protocols is None:
        return
    if not facts.open_protocols:
        yield Finding("control", "ok", "loading models, shared memory, tracing and logging need a key")
        return
    severe = "model-repository" in facts.open_protocols or "shared-memory" in facts.open_protocols
    severity: Severity = "error" if severe and not facts.local else "warning"
    message = f"everybody who reaches this port can use: {', '.join(facts.open_protocols)}"
    yield Finding("control", severity, message, _RESTRICTIONS)


def _http(facts: Facts) -> Iterator[Finding]:
    http = facts.http
    if http is None:
        return
    if not http.is_open:
        yield Finding("http", "ok", f"port {http.port} of the HTTP API is closed to this machine")
        return
    severity: Severity = "warning" if facts.local else "error"
    if http.open_protocols:
        message = f"everybody who reaches HTTP port {http.port} can use: {', '.join(http.open_protocols)}"
        yield Finding("http", severity, message, _HTTP_RESTRICTIONS)
    if not http.inference:
        if not http.open_protocols:
            yield Finding("http", "ok", f"HTTP port {http.port} answers only health checks without a key")
    elif facts.version is not None and outdated(facts.version):
        message = f"HTTP port {http.port} answers inference, and one malformed request can end Triton {facts.version}"
        remedy = "leave out --http-inference of `tuwen serve`, close the port, or use the newest release of Triton"
        yield Finding("http", severity, message, remedy)
    elif facts.encrypted:
        message = f"HTTP port {http.port} answers inference without encryption, although gRPC is encrypted"
        yield Finding("http", "warning", message, "restrict inference over HTTP to a key, or close the port")
    elif not http.open_protocols:
        yield Finding("http", "ok", f"HTTP port {http.port} answers inference, and control only with a key")


def _encryption(facts: Facts) -> Iterator[Finding]:
    if not facts.encrypted and not facts.local:
        remedy = "encrypt with TLS on the server or in front of it, or keep the traffic in a network that you trust"
        yield Finding("encryption", "note", "texts, images and vectors cross the network in the clear", remedy)


def _certificate(facts: Facts) -> Iterator[Finding]:
    found = facts.certificate
    if found is None:
        return
    if found.problem:
        remedy = (
            "name the authority with --ca, give the server a certificate for the name that clients use, or leave out "
            "--tls and --ca if the server does not encrypt"
        )
        names = f"; it is for {', '.join(found.names)}" if found.names else ""
        yield Finding("certificate", "error", f"TLS failed: {found.problem}{names}", remedy)
    if found.days_left is not None and found.days_left < _CERTIFICATE_WARNING:
        passed = found.days_left < 0
        message = "the certificate has expired" if passed else f"the certificate expires in {found.days_left:.0f} days"
        remedy = "renew it, and make sure that the server or Envoy reads the new file"
        yield Finding("expiry", "error" if passed else "warning", message, remedy)
    elif found.days_left is not None and not found.problem:
        yield Finding("certificate", "ok", f"the certificate is trusted and expires in {found.days_left:.0f} days")


def _clock(facts: Facts) -> Iterator[Finding]:
    skew = facts.clock_skew
    if skew is None:
        return
    if abs(skew) < _CLOCK_WARNING:
        yield Finding("clock", "ok", f"the clocks differ by {abs(skew):.1f} s at most")
        return
    which = "ahead of" if skew > 0 else "behind"
    effect = "requests look older than they are and are refused too early" if skew > 0 else "overload is shed too late"
    message = f"the server's clock is {abs(skew):.1f} s {which} this machine's: {effect}"
    yield Finding(
        "clock", "error" if abs(skew) >= _CLOCK_ERROR else "warning", message, "run NTP or chrony on both machines"
    )


def _connections(facts: Facts) -> Iterator[Finding]:
    spread = "name a headless Service (dns:///NAME:8001), or put Envoy in front of the servers"
    if facts.several_servers:
        message = "one address leads to several servers, and each connection stays with one of them"
        yield Finding("connections", "warning", message, spread)
    elif len(facts.addresses) > 1:
        message = f"the name has {len(facts.addresses)} addresses, and the SDK sends its requests to all of them"
        yield Finding("connections", "ok", message)
    elif facts.is_name and not facts.local:
        message = (
            "the name has one address: if a balancer of connections is behind it, each client stays with one server"
        )
        yield Finding("connections", "note", message, spread)


def _shared_memory(facts: Facts) -> Iterator[Finding]:
    if facts.shared_memory_free is None:
        return
    mib = facts.shared_memory_free >> 20
    if facts.shared_memory_free < _LITTLE_SHARED_MEMORY:
        remedy = "give the container --shm-size=1g or more, and remove files that killed servers left in /dev/shm"
        yield Finding("shared_memory", "warning", f"/dev/shm has {mib} MiB left, and large batches need more", remedy)
    else:
        yield Finding("shared_memory", "ok", f"/dev/shm has {mib:,} MiB left")


def _cache(facts: Facts) -> Iterator[Finding]:
    cached = sorted(name for name, model in facts.models.items() if model.response_cache)
    if cached:
        message = f"Triton's response cache can keep a failed request as a success without outputs: {', '.join(cached)}"
        remedy = "turn response_cache off in the config; `tuwen serve --cache-mib` keeps vectors of texts itself"
        yield Finding("cache", "warning", message, remedy)


def _text_cache(facts: Facts) -> Iterator[Finding]:
    cache = facts.text_cache
    texts = cache.hits + cache.misses if cache else 0
    if cache is None or not texts:
        return
    message = f"the cache had the vectors of {cache.hits:,} of {texts:,} texts ({cache.hits / texts:.0%})"
    if texts >= _ENOUGH_REQUESTS and cache.hits < _FEW_HITS * texts:
        remedy = (
            "if the same texts come again, give the cache more memory (`tuwen serve --cache-mib`); otherwise turn the "
            "cache off with --cache-mib 0"
        )
        yield Finding("text_cache", "note", message, remedy)
    else:
        yield Finding("text_cache", "ok", message)


def _batches(facts: Facts) -> Iterator[Finding]:
    for name, model in sorted(facts.models.items()):
        if not name.endswith(_ENCODERS) or model.requests < _ENOUGH_REQUESTS or not model.executions:
            continue
        mean = model.items / model.executions
        if mean < 1.05:
            message = f"{name} computed {model.items:,} items in batches of {mean:.2f}: nothing is batched"
            remedy = "let clients send several items in a call, or several calls at once; see `tuwen tune`"
            yield Finding("batches", "note", message, remedy)
        else:
            yield Finding("batches", "ok", f"{name} computed {model.items:,} items in batches of {mean:.1f}")


def _burst(facts: Facts) -> Iterator[Finding]:
    burst = facts.burst
    if burst is None:
        return
    told = f"{burst.requests} simultaneous requests took {burst.seconds:.2f} s"
    if burst.failures:
        remedy = "look at the server's queues with `tuwen status`, and read its log"
        yield Finding("burst", "warning", f"{told}, and {burst.failures} of them failed", remedy)
    elif not burst.batches:
        yield Finding("burst", "note", f"{told}; the batches could not be counted")
    elif burst.requests / burst.batches < 1.5:
        remedy = "check dynamic_batching in the text encoder's config; `tuwen build` writes it"
        message = f"{told} and were computed in {burst.batches} batches: no batches are formed"
        yield Finding("burst", "warning", message, remedy)
    else:
        mean = burst.requests / burst.batches
        yield Finding("burst", "ok", f"{told} and were computed in {burst.batches} batches of {mean:.1f}")
