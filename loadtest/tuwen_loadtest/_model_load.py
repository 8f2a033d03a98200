"""The busy share of each step of the server, second by second, from Triton's counters."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tuwen import TuwenError
from tuwen.connection import channel_options, channel_target
from tuwen.model_names import ENSEMBLES, full_name
from tuwen.statistics import Statistics, difference
from tuwen_loadtest._target import Target

__all__ = ["STEP_NAMES", "ModelLoad", "busiest_seconds", "load_between", "watch_models"]

STEP_NAMES: Mapping[str, str] = {
    "vision_encoder": "vision encoder",
    "text_encoder": "text encoder",
    "image_preprocessing": "preprocessing of images",
    "text_tokenization": "tokenization of texts",
}
"""The names of the steps of the server in reports, by the name of the Triton model."""
_EVERY = 1.0  # seconds
_TIMEOUT = 5.0
_SMOOTHED = 5  # readings; Triton counts a batch when it ends, so the share of a single second is too high or too low


@dataclass(frozen=True)
class ModelLoad:
    """The work of the server during a span of about one second.

    Attributes:
        time: the end of the span, in Unix time.
        answered: the answers per second.
        busy: the share of the span in which the instances of a model computed, by the name of the model.
    """

    time: float
    answered: float
    busy: Mapping[str, float]


@contextmanager
def watch_models(target: Target, live: Callable[[ModelLoad], None] = lambda _: None) -> Iterator[list[ModelLoad]]:
    """Provide a list of the server's work. A reading is added every second until the end of the block.

    While a server does not answer, for example during a restart, no readings are added.

    Args:
        target: the target of the load.
        live: a function that is called with each reading.

    Raises:
        InvalidArgumentError: the address, the model's name or the encryption of the target is invalid.
    """
    loads: list[ModelLoad] = []
    done = threading.Event()
    urls = [server.grpc_url for server in target.servers] or [target.connection.url]

    def look() -> None:
        instances = sum((_instances(target, url) for url in urls), Counter[str]())
        before: list[Statistics] = []
        then = time.time()
        while not done.wait(_EVERY if before else 0):
            try:
                now, after = time.time(), [client.statistics() for client in clients]
            except TuwenError:
                before = []
                done.wait(_EVERY)
                continue
            if before:
                changes = [difference(*pair) for pair in zip(after, before, strict=True)]
                loads.append(load_between(changes, instances, now - then, now, name=target.connection.model))
                live(loads[-1])
            before, then = after, now

    with ExitStack() as stack:
        clients = [stack.enter_context(replace(target.connection, url=url).client(_TIMEOUT)) for url in urls]
        thread = threading.Thread(target=look, name="watch models", daemon=True)
        thread.start()
        try:
            yield loads
        finally:
            done.set()
            thread.join(2 * _TIMEOUT)


def load_between(
    changes: Sequence[Statistics], instances: Mapping[str, int], seconds: float, now: float, *, name: str = ""
) -> ModelLoad:
    """Return the work of servers during a span of time, from the changes of their counters.

    Triton adds the time of a batch to every request of the batch. The mean time of a request is therefore the time of a
    batch.

    Args:
        changes: the changes of the counters of each server during the span.
        instances: the number of instances of each model, on all servers together.
        seconds: the length of the span.
        now: the end of the span, in Unix time.
        name: the name of the repository on a server with several repositories; empty: the server has one repository.
    """
    busy = {}
    for model, count in instances.items():
        found = full_name(name, model)
        counted = [change[found] for change in changes if found in change]
        computing = sum(one.executions * one.compute_seconds / one.requests for one in counted if one.requests)
        busy[model] = min(1.0, computing / (seconds * max(1, count)))
    ensembles = [full_name(name, model) for model in ENSEMBLES]
    answered = sum(change[model].requests for change in changes for model in ensembles if model in change)
    return ModelLoad(now, answered / seconds, busy)


def busiest_seconds(shares: Sequence[float]) -> float:
    """Return the highest mean of five consecutive busy shares; nan without shares."""
    values = np.asarray([share for share in shares if not math.isnan(share)])
    if not len(values):
        return float("nan")
    length = min(_SMOOTHED, len(values))
    return float(np.convolve(values, np.ones(length) / length, "valid").max())


def _instances(target: Target, url: str) -> Counter[str]:
    """Return the number of instances of each model, from its configuration; 1 if the server does not show it."""
    address, tls = channel_target(url), target.connection.tls
    found = Counter(dict.fromkeys(STEP_NAMES, 1))
    with InferenceServerClient(
        address,
        ssl=tls is not None,
        creds=tls.credentials() if tls else None,
        channel_args=channel_options(address, tls),
    ) as client:
        for model in STEP_NAMES:
            with suppress(InferenceServerException):
                name = full_name(target.connection.model, model)
                answer = client.get_model_config(name, headers=dict(target.connection.headers), client_timeout=_TIMEOUT)
                groups = answer.config.instance_group
                found[model] = sum(group.count * max(1, len(group.gpus)) for group in groups) or 1
    return found
