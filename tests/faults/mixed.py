"""Send mixed requests to every model, make 1 % of the requests fail, and check every answer.

No vector may be wrong, the server must survive, and each induced failure must raise its own kind of error.

    python -m tests.faults.mixed [--requests 100000] [--callers 12] [--checkpoint build/demo/checkpoint] [--seed 0]

Plain tritonclient and the SDK send texts, images, pixel values and token ids, as single items and in batches. An
induced failure is a bad item, a tensor of a wrong shape, an encoder that raises an error, or a deadline that passes.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from tests.faults._outcome import Outcome, table
from tests.faults.failing_encoders import FAILURE, with_failing_encoders
from tests.faults.images import good_images
from tests.faults.items import Oracle
from tests.faults.texts import good_texts
from tuwen import (
    Client,
    DeadlineExceededError,
    InferenceError,
    InvalidItemsError,
    OverloadedError,
    RetryPolicy,
)
from tuwen_build.repository import build_repository
from tuwen_server import EmbeddedServer, ServerOptions
from tuwen_server.signals import stop_on_signals

__all__ = ["attack_with_mixed_requests"]

FAILING_TEXT = "编码器在这一句上失败"
_IMAGES, _TEXTS = 64, 512
_LARGEST_BATCH = 8
_FAILING_SHARE = 0.01
_TOLERANCE = 2e-5
_TIMEOUT = 60.0
_BAD_IMAGES = (b"no image", b"", b"\xff\xd8\xff\xe0")
_BAD_TEXTS = (b"\xff\xfe", "一只猫".encode()[:-1], b"x" * 300_000)
_ONCE = RetryPolicy(attempts=1)

Array = NDArray[Any]
Send = Callable[["Work", "Callers", "Request"], str]
"""A function that sends a request, checks its answer, and returns the outcome in words, such as ``right``."""


class WrongAnswerError(Exception):
    """The server's answer differs from the expected answer."""


@dataclass(frozen=True)
class Request:
    """The plan of one request.

    Attributes:
        way: the client and the model or method, a key of `WAYS`, such as ``plain text_encoder`` or ``SDK texts``.
        items: the indices of the good items.
        failure: the induced failure: ``bad item``, ``wrong shape``, ``encoder error`` or ``deadline``; empty: none.
        position: the index at which the failing item is inserted among the good items.
        seconds: the timeout; a few milliseconds if the failure is ``deadline``, else 60 seconds.
        statuses: whether a plain request asks for the status of each item.
        choice: a random number that selects one of the bad items.
    """

    way: str
    items: tuple[int, ...]
    failure: str
    position: int
    seconds: float
    statuses: bool
    choice: int


class Work:
    """The items of all requests, and the vectors that the encoders compute for them in this process."""

    def __init__(self, repository: Path, seed: int) -> None:
        oracle = Oracle(repository)
        self.images, self.texts = good_images(_IMAGES, seed=seed), good_texts(_TEXTS, seed=seed)
        self.pixels = np.stack(oracle.inputs("image", self.images))
        ids, masks = zip(*oracle.inputs("text", self.texts), strict=True)
        self.ids, self.masks = np.concatenate(ids), np.concatenate(masks)
        self.image_vectors = np.stack([np.asarray(one) for one in oracle.expected("image", self.images)])
        self.text_vectors = np.stack([np.asarray(one) for one in oracle.expected("text", self.texts)])
        self.failing_image = good_images(_IMAGES + 1, seed=seed)[_IMAGES]
        [self.failing_pixels] = oracle.inputs("image", [self.failing_image])
        [(self.failing_ids, self.failing_mask)] = oracle.inputs("text", [FAILING_TEXT])


class Callers:
    """The clients that one thread uses: plain tritonclient, the SDK, and the SDK with preprocessing in the client."""

    def __init__(self, url: str) -> None:
        self.plain = InferenceServerClient(url)
        self.sdk = Client(url, timeout=_TIMEOUT, retries=_ONCE, remembered_texts=0)
        self.sdk_pixels = Client(url, timeout=_TIMEOUT, retries=_ONCE, preprocess="client")

    def close(self) -> None:
        """Close all clients."""
        for client in (self.plain, self.sdk, self.sdk_pixels):
            client.close()


def attack_with_mixed_requests(
    repository: Path,
    folder: Path,
    *,
    requests: int,
    callers: int = 12,
    seed: int = 0,
    serve: Callable[[Path, ServerOptions], EmbeddedServer] = EmbeddedServer,
    say: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Serve a copy of a repository whose encoders fail on one item, and send mixed requests to the server.

    Args:
        repository: the folder of a repository that `tuwen build` made, with the precision fp32.
        folder: an existing folder, in which the copy is made.
        requests: the number of requests.
        callers: the number of threads, each of which sends one request at a time.
        seed: the seed of the requests; equal seeds send equal requests.
        serve: a function that starts the server of a repository's folder with the given options.
        say: a function that is called with each line of progress; by default, no progress is reported.

    Returns:
        A row for each key of `WAYS`, a row for each kind of induced failure of a key, and a row for the server.
    """
    work = Work(repository, seed)
    served = with_failing_encoders(
        repository, folder / "failing", pixel_values=work.failing_pixels, input_ids=work.failing_ids
    )
    options = ServerOptions(http_port=0, grpc_port=0, metrics_port=0, check_files=False)
    with serve(served, options) as server:
        storm = _Storm(server, work, requests, seed, say)
        with ThreadPoolExecutor(callers) as pool:
            for caller in [pool.submit(storm.run) for _ in range(callers)]:
                caller.result()
        trouble = server.trouble()
    return storm.outcomes(trouble)


class _Storm:
    def __init__(
        self, server: EmbeddedServer, work: Work, requests: int, seed: int, say: Callable[[str], None]
    ) -> None:
        self._server, self._work, self._say = server, work, say
        self._total, self._seed = requests, seed
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._wrong: dict[str, list[str]] = defaultdict(list)
        self._dead = threading.Event()

    def run(self) -> None:
        callers = Callers(self._server.grpc_url)
        try:
            while not self._dead.is_set() and (number := next(self._numbers)) < self._total:
                self._one(callers, request(number, self._seed))
                if number % 1_000 == 0:
                    wrong = sum(map(len, self._wrong.values()))
                    self._say(f"mixed requests: {number:,} of {self._total:,}; {wrong} wrong")
        finally:
            callers.close()

    def _one(self, callers: Callers, asked: Request) -> None:
        try:
            happened, wrong = WAYS[asked.way](self._work, callers, asked), ""
        except Exception as error:
            happened = "wrong"
            wrong = f"{asked}: {type(error).__name__}: {str(error)[:300]}"
            if self._server.poll() is not None:
                self._dead.set()
        row = f"{asked.way}: {asked.failure}" if asked.failure else asked.way
        with self._lock:
            self._counts[row][happened] += 1
            if wrong:
                self._wrong[row].append(wrong)

    def outcomes(self, trouble: str | None) -> list[Outcome]:
        rows = [row for way in WAYS for row in (way, *(f"{way}: {failure}" for failure in FAILURES[way]))]
        found = [
            Outcome(
                f"mixed: {row}",
                sum(self._counts[row].values()),
                ", ".join(f"{count:,} {what}" for what, count in self._counts[row].most_common()),
                self._wrong[row],
            )
            for row in rows
            if self._counts[row]
        ]
        said = "the same process ran throughout" if trouble is None else "failed"
        return [*found, Outcome("the server under mixed requests", 1, said, [trouble] if trouble else [])]


def request(number: int, seed: int) -> Request:
    """Return the plan of the request with the given number, from 0. Equal numbers and seeds give equal plans."""
    choose = random.Random(f"{seed} {number}")
    way = choose.choice(list(WAYS))
    failure = choose.choice(FAILURES[way]) if choose.random() < _FAILING_SHARE else ""
    count = 1 if choose.random() < 0.5 else choose.randint(2, _LARGEST_BATCH)
    items = tuple(choose.choices(range(_TEXTS if "text" in way else _IMAGES), k=count))
    return Request(
        way,
        items,
        failure,
        choose.randint(0, count),
        choose.uniform(0.0005, 0.02) if failure == "deadline" else _TIMEOUT,
        way in _STATUSES and choose.random() < 0.3,
        choose.randrange(1 << 16),
    )


def _plain(model: str, text: bool, inputs: Callable[[Work, Request], Mapping[str, Array]]) -> Send:
    """Return a function that sends a plain request to a model and compares the vectors of the answer.

    Args:
        model: the name of the model.
        text: whether the items are texts; otherwise they are images.
        inputs: a function that returns the request's tensors by their names.
    """

    def send(work: Work, callers: Callers, asked: Request) -> str:
        tensors = inputs(work, asked)
        try:
            answer = _infer(callers.plain, model, tensors, asked)
        except InferenceServerException as error:
            return _plain_failure(error, asked)
        outputs = {tensor.name.partition(".")[0]: tensor.name for tensor in answer.get_response().outputs}
        vectors = answer.as_numpy(outputs["embedding"])
        expected = (work.text_vectors if text else work.image_vectors)[list(asked.items)]
        if asked.failure == "bad item":
            statuses = answer.as_numpy("status")[:, 0]
            _check_status(statuses, asked)
            vectors = np.delete(vectors, asked.position, axis=0)
        elif asked.failure in ("wrong shape", "encoder error"):
            raise WrongAnswerError(f"expected an error (induced: {asked.failure}), got an answer")
        _compare(vectors, expected)
        return "right, next to a bad item" if asked.failure == "bad item" else "right"

    return send


def _plain_preparation(model: str, outputs: Mapping[str, Callable[[Work], Array]], text: bool) -> Send:
    """Return a function that sends a plain request to the tokenization or the preprocessing and compares the outputs.

    Args:
        model: the name of the model.
        outputs: for each output's name, a function that returns the expected values of all items.
        text: whether the items are texts; otherwise they are images.
    """

    def send(work: Work, callers: Callers, asked: Request) -> str:
        try:
            answer = _infer(callers.plain, model, _strings(work, asked, text), asked)
        except InferenceServerException as error:
            return _plain_failure(error, asked)
        for name, expected in outputs.items():
            found = answer.as_numpy(name)
            if asked.failure == "bad item":
                _check_status(answer.as_numpy("status")[:, 0], asked)
                found = np.delete(found, asked.position, axis=0)
            elif asked.failure == "wrong shape":
                raise WrongAnswerError(f"expected an error (induced: {asked.failure}), got an answer")
            if not np.array_equal(found, expected(work)[list(asked.items)]):
                raise WrongAnswerError(f"the output {name} differs from the expected values")
        return "right, next to a bad item" if asked.failure == "bad item" else "right"

    return send


def _sdk(text: bool, embed: Callable[[Callers, list[Any], float], Array]) -> Send:
    """Return a function that makes a call of the SDK and compares the vectors or the error.

    Args:
        text: whether the items are texts; otherwise they are images.
        embed: a function that embeds items with one of the clients and a timeout in seconds.
    """

    def send(work: Work, callers: Callers, asked: Request) -> str:
        items = _items(work, asked, text)
        try:
            vectors = embed(callers, items, asked.seconds)
        except InvalidItemsError as error:
            if asked.failure != "bad item" or [one.index for one in error.failures] != [asked.position]:
                raise
            return f"InvalidItemsError ({error.failures[0].reason})"
        except (DeadlineExceededError, OverloadedError) as error:
            if asked.failure != "deadline":
                raise
            return type(error).__name__
        except InferenceError as error:
            return _encoder_failure(str(error), type(error).__name__, asked)
        if asked.failure in ("bad item", "encoder error"):
            raise WrongAnswerError(f"expected an error (induced: {asked.failure}), got an answer")
        _compare(vectors, (work.text_vectors if text else work.image_vectors)[list(asked.items)])
        return "right"

    return send


def _sdk_stream(text: bool) -> Send:
    """Return a function that runs a stream of the SDK and compares the outcome of each item.

    Args:
        text: whether the items are texts; otherwise they are images.
    """

    def send(work: Work, callers: Callers, asked: Request) -> str:
        items = _items(work, asked, text)
        expected = list((work.text_vectors if text else work.image_vectors)[list(asked.items)])
        if asked.failure:
            expected.insert(asked.position, expected[0])
        try:
            outcomes = list(callers.sdk.stream_texts(items) if text else callers.sdk.stream_images(items))
        except InferenceError as error:
            return _encoder_failure(str(error), type(error).__name__, asked)
        for outcome, wanted in zip(outcomes, expected, strict=True):
            bad = asked.failure == "bad item" and outcome.index == asked.position
            if outcome.ok is bad or asked.failure == "encoder error":
                raise WrongAnswerError(f"item {outcome.index}: {outcome.error or 'expected an error, got a vector'}")
            if outcome.embedding is not None:
                _compare(outcome.embedding[None], wanted[None])
        return "right, next to a bad item" if asked.failure else "right"

    return send


def _infer(plain: InferenceServerClient, model: str, tensors: Mapping[str, Array], asked: Request) -> Any:
    inputs = []
    for name, values in tensors.items():
        datatype = {"O": "BYTES", "u": "UINT8", "i": "INT64"}[values.dtype.kind]
        inputs.append(InferInput(name, list(values.shape), datatype))
        inputs[-1].set_data_from_numpy(values)
    parameters = {"per_item_status": True} if asked.statuses else None
    return plain.infer(model, inputs, client_timeout=asked.seconds, parameters=parameters)


def _plain_failure(error: InferenceServerException, asked: Request) -> str:
    code, message = str(error.status()).removeprefix("StatusCode."), str(error.message())
    if asked.failure == "deadline" and code == "DEADLINE_EXCEEDED":
        return code
    if asked.failure == "wrong shape" and code == "INVALID_ARGUMENT":
        return code
    if asked.failure == "bad item" and code == "INVALID_ARGUMENT" and not asked.statuses:
        if f" {asked.position}: " not in message:
            raise error
        return code
    return _encoder_failure(message, code, asked)


def _encoder_failure(message: str, kind: str, asked: Request) -> str:
    """Return the kind of an encoder's error. Only a request with the encoders' failing item may get such an error.

    Args:
        message: the message of the error.
        kind: the gRPC status code or the name of the exception.
        asked: the plan of the request.

    Raises:
        WrongAnswerError: no encoder error was induced, or the error has another message or kind.
    """
    if asked.failure != "encoder error" or FAILURE not in message or kind not in ("INTERNAL", "InferenceError"):
        raise WrongAnswerError(f"{kind}: {message}")
    return kind


def _check_status(statuses: Array, asked: Request) -> None:
    bad = [index for index, status in enumerate(statuses) if status]
    if not asked.statuses or bad != [asked.position]:
        raise WrongAnswerError(f"expected a refusal of item {asked.position} alone, got the statuses {statuses}")


def _compare(vectors: Array, expected: Array) -> None:
    if vectors.shape != expected.shape:
        raise WrongAnswerError(f"expected vectors of the shape {expected.shape}, got {vectors.shape}")
    off = float(np.abs(vectors - expected).max())
    if not off < _TOLERANCE:
        raise WrongAnswerError(f"expected a difference below {_TOLERANCE:.1e} in each component, got {off:.1e}")


def _items(work: Work, asked: Request, text: bool) -> list[Any]:
    """Return the images or texts of a call of the SDK, with the failing item at its position."""
    good: list[Any] = [(work.texts if text else work.images)[index] for index in asked.items]
    if asked.failure == "bad item":
        bad: tuple[Any, ...] = ("\ud800", "长" * 100_000) if text else _BAD_IMAGES
        good.insert(asked.position, bad[asked.choice % len(bad)])
    elif asked.failure == "encoder error":
        good.insert(asked.position, FAILING_TEXT if text else work.failing_image)
    return good


def _strings(work: Work, asked: Request, text: bool) -> Mapping[str, Array]:
    """Return the tensor of a plain request by its name: images or texts, and a failing item if the request has one."""
    items: list[bytes] = [work.texts[index].encode() if text else work.images[index] for index in asked.items]
    if asked.failure == "bad item":
        bad = _BAD_TEXTS if text else _BAD_IMAGES
        items.insert(asked.position, bad[asked.choice % len(bad)])
    elif asked.failure == "encoder error":
        items.insert(asked.position, FAILING_TEXT.encode() if text else work.failing_image)
    values = np.empty((len(items), 1), dtype=object)
    values[:, 0] = items
    if asked.failure == "wrong shape":
        values = np.concatenate([values, values], axis=1)
    return {"text" if text else "image": values}


def _pixels(work: Work, asked: Request) -> Mapping[str, Array]:
    values = work.pixels[list(asked.items)]
    if asked.failure == "encoder error":
        values = np.insert(values, asked.position, work.failing_pixels, axis=0)
    return {"pixel_values": np.ascontiguousarray(values[..., 1:] if asked.failure == "wrong shape" else values)}


def _tokens(work: Work, asked: Request) -> Mapping[str, Array]:
    ids, masks = work.ids[list(asked.items)], work.masks[list(asked.items)]
    if asked.failure == "wrong shape":
        return {"input_ids": np.ones((1, 7), np.int64), "attention_mask": np.ones((1, 0), np.int64)}
    if asked.failure == "encoder error":
        ids = np.insert(ids, asked.position, work.failing_ids, axis=0)
        masks = np.insert(masks, asked.position, work.failing_mask, axis=0)
    return {"input_ids": ids, "attention_mask": masks}


_ALL = ("bad item", "wrong shape", "encoder error", "deadline")
_OF_ENCODERS = ("wrong shape", "encoder error", "deadline")
_OF_PREPARATION = ("bad item", "wrong shape", "deadline")
_OF_CALLS = ("bad item", "encoder error", "deadline")
_OF_STREAMS = ("bad item", "encoder error")
_STATUSES = {
    "plain image_embedding",
    "plain text_embedding",
    "plain image_preprocessing",
    "plain text_tokenization",
}

WAYS: Mapping[str, Send] = {
    "plain image_embedding": _plain("image_embedding", False, lambda work, asked: _strings(work, asked, False)),
    "plain text_embedding": _plain("text_embedding", True, lambda work, asked: _strings(work, asked, True)),
    "plain pixel_embedding": _plain("pixel_embedding", False, _pixels),
    "plain vision_encoder": _plain("vision_encoder", False, _pixels),
    "plain text_encoder": _plain("text_encoder", True, _tokens),
    "plain image_preprocessing": _plain_preparation(
        "image_preprocessing", {"pixel_values": lambda work: work.pixels}, False
    ),
    "plain text_tokenization": _plain_preparation(
        "text_tokenization", {"input_ids": lambda work: work.ids, "attention_mask": lambda work: work.masks}, True
    ),
    "SDK images": _sdk(False, lambda callers, items, seconds: callers.sdk.embed_images(items, timeout=seconds)),
    "SDK texts": _sdk(True, lambda callers, items, seconds: callers.sdk.embed_texts(items, timeout=seconds)),
    "SDK pixels": _sdk(False, lambda callers, items, seconds: callers.sdk_pixels.embed_images(items, timeout=seconds)),
    "SDK stream of images": _sdk_stream(False),
    "SDK stream of texts": _sdk_stream(True),
}
FAILURES: Mapping[str, Sequence[str]] = {
    "plain image_embedding": _ALL,
    "plain text_embedding": _ALL,
    "plain pixel_embedding": _OF_ENCODERS,
    "plain vision_encoder": _OF_ENCODERS,
    "plain text_encoder": _OF_ENCODERS,
    "plain image_preprocessing": _OF_PREPARATION,
    "plain text_tokenization": _OF_PREPARATION,
    "SDK images": _OF_CALLS,
    "SDK texts": _OF_CALLS,
    "SDK pixels": _OF_CALLS,
    "SDK stream of images": _OF_STREAMS,
    "SDK stream of texts": _OF_STREAMS,
}


def main() -> int:
    """Build and serve a checkpoint, send the mixed requests, and print the table. Return 1 if an answer was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mixed", description=str(__doc__).splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000, help="Number of requests (default: 100000).")
    parser.add_argument("--callers", type=int, default=12, help="Number of concurrent callers (default: 12).")
    parser.add_argument(
        "--checkpoint",
        default="build/demo/checkpoint",
        help="Checkpoint to build and serve (default: build/demo/checkpoint, which `make demo` makes).",
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of the requests (default: 0).")
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, stop_on_signals():
        folder = Path(temporary)
        build_repository(options.checkpoint, folder / "repository")
        outcomes = attack_with_mixed_requests(
            folder / "repository",
            folder,
            requests=options.requests,
            callers=options.callers,
            seed=options.seed,
            say=lambda line: print(f"{time.monotonic() - start:6.0f} s  {line}", file=sys.stderr, flush=True),
        )
    wrong = [f"{outcome.tried}: {one}" for outcome in outcomes for one in outcome.wrong]
    print(table(outcomes), *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
