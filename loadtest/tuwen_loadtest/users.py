"""Locust users that call the SDK.

With ``--arrivals closed``, a user is a caller who sends the next request after the answer. If the server stalls, all
callers wait, and the stall counts as one slow request per caller (coordinated omission). With ``--arrivals poisson``, a
user sends requests at random times, one per second on average, and does not wait for answers. In both modes, a latency
counts from the scheduled start of a request.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Mapping
from typing import ClassVar

import gevent
from gevent import GreenletExit
from gevent.pool import Group
from grpc.experimental.gevent import init_gevent
from locust import User, constant, task
from locust.user.task import LOCUST_STATE_STOPPING

from tuwen import Client, DeadlineExceededError, OverloadedError, TuwenError
from tuwen_loadtest._locust_options import LoadOptions, options_of
from tuwen_loadtest._payloads import Payloads, payloads_of
from tuwen_loadtest._samples import Outcome, Sample

__all__ = ["CALLS", "BulkEmbedding", "BulkIndexing", "ImageEmbedding", "SdkUser", "Similarity", "TextSearch", "Visitor"]

# gRPC has to know gevent before the first channel is made. Otherwise one call would block all users.
init_gevent()

_numbers = itertools.count()
_TO_UNIX = time.time() - time.perf_counter()
_TEXTS_AN_IMAGE = 5
_BULK = 32


class SdkUser(User):
    """The base class of users: one caller, or with Poisson arrivals one stream of requests.

    Attributes:
        mix: the weights of the kinds of calls that the user makes. The kinds are those of `CALLS`.
        waits_for_answers: whether the user waits for answers even with Poisson arrivals.
    """

    abstract = True
    wait_time = constant(0)
    mix: ClassVar[Mapping[str, int]]
    waits_for_answers = False

    def on_start(self) -> None:
        """Get the client that all users of this process share, and the items to send."""
        options = options_of(self.environment)
        self._open = options.open_loop and not self.waits_for_answers
        self._random = random.Random(f"{options.payloads.seed} {next(_numbers)}")  # noqa: S311 - no secret
        self._due = time.perf_counter()
        self._under_way = Group()
        self._clip = _clients.join(options)
        self._payloads = payloads_of(options.payloads)

    def on_stop(self) -> None:
        """Wait for requests in flight. The last user closes the client, because Locust would hang with an open channel.

        If Locust's ``--stop-timeout`` ends the wait, the remaining requests are recorded as unfinished.
        """
        try:
            self._under_way.join()
        finally:
            self._under_way.kill()
            _clients.leave()

    @task
    def ask(self) -> None:
        """Send the next request at its scheduled time."""
        if not self._open:
            self._measure(time.perf_counter())
            return
        self._due += self._random.expovariate(1.0)
        gevent.sleep(max(0.0, self._due - time.perf_counter()))
        if self._state == LOCUST_STATE_STOPPING:
            return  # the request was scheduled after the end of the run
        self._under_way.spawn(self._measure, self._due)

    def _measure(self, due: float) -> None:
        [kind] = self._random.choices(list(self.mix), list(self.mix.values()))
        lag = time.perf_counter() - due
        failure: BaseException | None = None
        try:
            CALLS[kind](self._clip, self._payloads)
        except TuwenError as error:
            failure = error
        except BaseException as error:  # a bug, or the end of the run: lost requests count too
            failure = error
            raise
        finally:
            self._record(kind, due, lag, failure)

    def _record(self, kind: str, due: float, lag: float, failure: BaseException | None) -> None:
        seconds = time.perf_counter() - due
        self.environment.events.request.fire(
            request_type="gRPC",
            name=kind,
            response_time=seconds * 1e3,
            response_length=0,
            exception=failure,
            context={"sample": Sample(kind, due + _TO_UNIX, lag, seconds, _outcome(failure))},
        )


class Visitor(SdkUser):
    """The default user, which embeds queries, embeds pictures, and compares pictures with texts, in random order.

    One user sends all kinds of requests, so that the proportion of the kinds is fixed. With separate users for each
    kind, users with fast answers would send more requests.
    """

    mix: ClassVar[Mapping[str, int]] = {"text": 6, "image": 3, "similarity": 1}


class TextSearch(SdkUser):
    """A user that embeds one query after the other."""

    mix: ClassVar[Mapping[str, int]] = {"text": 1}


class ImageEmbedding(SdkUser):
    """A user that embeds one picture after the other."""

    mix: ClassVar[Mapping[str, int]] = {"image": 1}


class Similarity(SdkUser):
    """A user that compares a picture with a few texts."""

    mix: ClassVar[Mapping[str, int]] = {"similarity": 1}


class BulkIndexing(SdkUser):
    """A user that embeds one batch of pictures after another, as an indexing job does while other users search.

    If a run has users of other classes, it has one user of this class. A run of this class alone uses
    `BulkEmbedding` in its place.
    """

    fixed_count = 1
    mix: ClassVar[Mapping[str, int]] = {"bulk": 1}
    waits_for_answers = True


class BulkEmbedding(SdkUser):
    """A user that embeds batches of pictures. The options of the run set the number and the arrivals."""

    mix: ClassVar[Mapping[str, int]] = {"bulk": 1}


def _embed_query(clip: Client, payloads: Payloads) -> object:
    return clip.embed_texts([payloads.query()])


def _embed_picture(clip: Client, payloads: Payloads) -> object:
    return clip.embed_images([payloads.image()])


def _compare(clip: Client, payloads: Payloads) -> object:
    return clip.similarity(images=[payloads.image()], texts=[payloads.query() for _ in range(_TEXTS_AN_IMAGE)])


def _index(clip: Client, payloads: Payloads) -> object:
    return clip.embed_images([payloads.image() for _ in range(_BULK)])


CALLS: Mapping[str, Callable[[Client, Payloads], object]] = {
    "text": _embed_query,
    "image": _embed_picture,
    "similarity": _compare,
    "bulk": _index,
}
"""The function that makes a call, by the kind of the call."""


def _outcome(failure: BaseException | None) -> Outcome:
    if failure is None:
        return "answered"
    if isinstance(failure, GreenletExit):
        return "unfinished"
    if isinstance(failure, OverloadedError):
        return "refused"
    return "timed out" if isinstance(failure, DeadlineExceededError) else "failed"


class _Clients:
    """The client that all users of the process share. The first user opens the client, and the last user closes it."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._users = 0

    def join(self, options: LoadOptions) -> Client:
        self._users += 1
        if self._client is None:
            self._client = options.connection.client(options.deadline, options.attempts)
        return self._client

    def leave(self) -> None:
        self._users -= 1
        if self._users == 0 and self._client is not None:
            self._client.close()
            self._client = None


_clients = _Clients()
