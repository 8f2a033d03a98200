"""An attack with good and hostile items, interleaved. Good items must be embedded, and bad items refused.

An oracle runs the repository's own files in this process, without the server. The server must refuse the items that the
oracle refuses, for the same reason, and must return the oracle's vectors for all other items.
"""

from __future__ import annotations

import io
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.faults._outcome import Outcome
from tests.faults._use import middle_and_end, use_of
from tests.faults.images import HOSTILE_IMAGES, good_images
from tests.faults.texts import HOSTILE_TEXTS, good_texts
from tuwen import Client, ItemOutcome, pixels
from tuwen_build.verification.template_modules import staged_module
from tuwen_server import EmbeddedServer

__all__ = ["Oracle", "attack_with_items"]

Kind = Literal["image", "text"]
Expected = NDArray[np.float32] | str
"""The expected result of an item: its unit vector, or the reason of its refusal, such as ``corrupt``."""

_ROUND = 2_000  # items per round, which bounds the memory of this process
_TOLERANCE = 2e-5
_ALWAYS_REFUSED = {"empty or a few bytes", "decompression bombs", "impossible sizes", "thousands of frames"}
_ALWAYS_REFUSED |= {"formats that are not allowed", "half a surrogate pair", "a megabyte"}
_ALWAYS_TAKEN = {"good"} | (HOSTILE_TEXTS.keys() - _ALWAYS_REFUSED)


@dataclass(frozen=True)
class _Item:
    family: str
    value: Any


class Oracle:
    """An oracle that computes the expected results of items with the repository's own files, without Triton."""

    def __init__(self, repository: Path) -> None:
        self._error = pixels.ItemError
        self._preprocessor = pixels.load_preprocessor(repository / "image_preprocessing" / "1", pixels.ImageLimits())
        with staged_module(repository / "text_tokenization" / "1", "tokens") as tokens:
            self._tokenizer = tokens.load_tokenizer(repository / "text_tokenization" / "1")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is deprecated, but Triton needs it
            self._vision, self._text = (
                torch.jit.load(repository / name / "1" / "model.pt") for name in ("vision_encoder", "text_encoder")
            )
        self._pool = ThreadPoolExecutor(2)

    def inputs(self, kind: Kind, values: Sequence[Any]) -> list[Any]:
        """Return the encoder's input for each item, or the reason of the item's refusal.

        The input of an image is a uint8 array with the shape (3, S, S). The input of a text is a tuple of the token ids
        and the attention mask, two int64 arrays with the shape (1, L).
        """
        return list(self._pool.map(self._pixels if kind == "image" else self._ids, values))

    def expected(self, kind: Kind, values: Sequence[Any]) -> list[Expected]:
        """Return the unit vector of each item, or the reason of its refusal."""
        inputs = self.inputs(kind, values)
        good = [index for index, found in enumerate(inputs) if not isinstance(found, str)]
        result: list[Expected] = [found if isinstance(found, str) else "" for found in inputs]
        for start in range(0, len(good), 32):
            part = good[start : start + 32]
            with torch.inference_mode():
                for index, vector in zip(part, self._encode(kind, [inputs[index] for index in part]), strict=True):
                    result[index] = vector
        return result

    def _encode(self, kind: Kind, inputs: list[Any]) -> NDArray[np.float32]:
        if kind == "image":
            found = self._vision(torch.from_numpy(np.stack(inputs)))
        else:
            found = self._text(*(torch.from_numpy(np.concatenate(part)) for part in zip(*inputs, strict=True)))
        vectors: NDArray[np.float32] = found.numpy()
        return vectors

    def _pixels(self, data: bytes) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns about many of these files
                return self._preprocessor.pixel_values(data)
        except self._error as error:
            return error.reason

    def _ids(self, text: str) -> Any:
        try:
            size = len(text.encode("utf-8"))
        except UnicodeEncodeError:
            return "not_utf8"
        if size > 262_144:
            return "too_many_bytes"
        tokens = self._tokenizer.encode([text])
        return tokens.input_ids, tokens.attention_mask


def attack_with_items(
    server: EmbeddedServer,
    repository: Path,
    *,
    hostile: int,
    good: int,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Send good and hostile items to a server, and compare each result with the oracle's.

    Args:
        server: the running server.
        repository: the folder of the repository that the server serves.
        hostile: the number of hostile items, of which 60 % are images and 40 % are texts.
        good: the number of good items, in the same proportions.
        seed: the seed of the items and their order.
        say: a function that is called with each line of progress; by default, no progress is reported.

    Returns:
        A row for each family of items, two rows for the server's memory, and a row for items of 100 MB.
    """
    oracle, outcomes = Oracle(repository), []
    for kind, families in (("image", HOSTILE_IMAGES), ("text", HOSTILE_TEXTS)):
        share, memory = 0.6 if kind == "image" else 0.4, _Memory(server)
        rows = _attack(kind, families, server, oracle, memory, round(hostile * share), round(good * share), seed, say)
        outcomes += [*rows, memory.outcome(f"the server's memory during the attack with {kind}s")]
    return [*outcomes, _enormous(server)]


def _enormous(server: EmbeddedServer) -> Outcome:
    """Send items of 100 MB: a picture followed by zeros, a bitmap, and random bytes."""
    picture, numbers = good_images(1)[0], np.random.default_rng(0)
    bitmap = io.BytesIO()
    Image.fromarray(numbers.integers(0, 256, (5_000, 7_000, 3), dtype=np.uint8)).save(bitmap, "BMP")
    counts, wrong = Counter[str](), list[str]()
    with Client(server.grpc_url, timeout=60) as clip:
        for data in (picture + bytes(100_000_000), bitmap.getvalue(), numbers.bytes(100_000_000)):
            [outcome] = clip.stream_images([data])
            reason = outcome.error.reason if outcome.error else "embedded"
            counts[reason] += 1
            if reason != "too_many_bytes":
                wrong.append(reason)
    said = ", ".join(f"{count} {what}" for what, count in counts.items())
    return Outcome("images: 100 megabytes", counts.total(), said, wrong)


def _attack(
    kind: Kind,
    families: Mapping[str, tuple[int, Callable[[random.Random], Any]]],
    server: EmbeddedServer,
    oracle: Oracle,
    memory: _Memory,
    hostile: int,
    good: int,
    seed: int,
    say: Callable[[str], None],
) -> list[Outcome]:
    counts: dict[str, Counter[str]] = {family: Counter() for family in ("good", *families)}
    wrong: dict[str, list[str]] = {family: [] for family in counts}
    done = 0
    items = _interleaved(kind, families, hostile, good, seed)
    with Client(server.grpc_url, timeout=60) as clip:
        while part := list(islice(items, _ROUND)):
            values = [item.value for item in part]
            expected = oracle.expected(kind, values)
            stream = clip.stream_images if kind == "image" else clip.stream_texts
            for item, wanted, outcome in zip(part, expected, stream(values), strict=True):
                happened = "embedded" if outcome.ok else str(outcome.error and outcome.error.reason)
                counts[item.family][happened] += 1
                if said := _difference(item.family, wanted, outcome):
                    wrong[item.family].append(said)
            done += len(part)
            memory.look()
            say(f"{kind}s: {done:,} of {hostile + good:,}; {sum(map(len, wrong.values()))} wrong; {memory}")
    return [
        Outcome(
            f"{kind}s: {family}",
            sum(counts[family].values()),
            ", ".join(f"{count:,} {what}" for what, count in counts[family].most_common()),
            wrong[family],
        )
        for family in counts
    ]


def _interleaved(
    kind: Kind,
    families: Mapping[str, tuple[int, Callable[[random.Random], Any]]],
    hostile: int,
    good: int,
    seed: int,
) -> Iterator[_Item]:
    choose = random.Random(f"{seed} {kind}")
    kinds = ["good"] * good + choose.choices(list(families), [weight for weight, _ in families.values()], k=hostile)
    choose.shuffle(kinds)
    friendly: Sequence[Any] = good_images(500, seed=seed) if kind == "image" else good_texts(5_000, seed=seed)
    for family in kinds:
        yield _Item(family, choose.choice(friendly) if family == "good" else families[family][1](choose))


def _difference(family: str, wanted: Expected, outcome: ItemOutcome) -> str:
    """Compare the server's outcome with the oracle's, and return a description of the difference; empty if equal."""
    if outcome.embedding is None:
        assert outcome.error is not None
        if family in _ALWAYS_TAKEN:
            return f"refused: {outcome.error}"
        return "" if outcome.error.reason == wanted else f"expected {str(wanted)[:40]}, got a refusal: {outcome.error}"
    if family in _ALWAYS_REFUSED or isinstance(wanted, str):
        return f"expected {wanted!r:.40}, got a vector"
    off = float(np.abs(outcome.embedding - wanted).max())
    return "" if off < _TOLERANCE else f"a vector differs by {off:.1e} in a component"


class _Memory:
    """Measurements of the memory of the server and its models' processes, in MiB."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._seen: list[float] = []

    def look(self) -> None:
        self._seen.append(use_of(self._server.pid)["MiB"])

    def __str__(self) -> str:
        return f"{self._seen[-1]:.0f} MiB"

    def outcome(self, tried: str) -> Outcome:
        """Return a row. It is wrong if the last third's median memory is over 1.1 times the middle third's median."""
        middle, last = middle_and_end(self._seen)
        wrong = [f"the memory grows: {[round(seen) for seen in self._seen]} MiB"] if last > 1.1 * middle else []
        said = f"median {middle:.0f} MiB in the middle third, {last:.0f} MiB in the last"
        return Outcome(tried, len(self._seen), said, wrong)
