"""Good and hostile items interleaved: every good one must be right, every bad one refused with its reason.

What a broken file is, good or bad, the pure cores say here, apart from the server: they decode it, or refuse it. The
server must agree, and where there is a vector, it must be that of the encoder run here.
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
"""A unit vector, or the reason of a refusal."""

_ROUND = 2_000  # items at a time, so that memory does not grow with the attack
_TOLERANCE = 2e-5
_ALWAYS_REFUSED = {"nothing, or next to it", "decompression bombs", "absurd sizes", "thousands of frames"}
_ALWAYS_REFUSED |= {"formats that stay shut", "half a surrogate pair", "a megabyte"}
_ALWAYS_TAKEN = {"good"} | (HOSTILE_TEXTS.keys() - _ALWAYS_REFUSED)


@dataclass(frozen=True)
class _Item:
    family: str
    value: Any


class Oracle:
    """The expected result of an item, from the repository's own files, without Triton."""

    def __init__(self, repository: Path) -> None:

        self._error = pixels.ItemError
        self._preprocessor = pixels.load_preprocessor(repository / "image_preprocessing" / "1", pixels.ImageLimits())
        with staged_module(repository / "text_tokenization" / "1", "tokens") as tokens:
            self._tokenizer = tokens.load_tokenizer(repository / "text_tokenization" / "1")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript as such is, not Triton's use of it
            self._vision, self._text = (
                torch.jit.load(repository / name / "1" / "model.pt") for name in ("vision_encoder", "text_encoder")
            )
        self._pool = ThreadPoolExecutor(2)

    def inputs(self, kind: Kind, values: Sequence[Any]) -> list[Any]:
        """Return what the encoder gets for each item, or the reason of its refusal.

        For an image: uint8 (3, S, S). For a text: the token ids and the mask, int64 (1, L) each.
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
                warnings.simplefilter("ignore")  # of Pillow, about odd files
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
    """Six of ten are images, the others texts."""
    oracle, outcomes = Oracle(repository), []
    for kind, families in (("image", HOSTILE_IMAGES), ("text", HOSTILE_TEXTS)):
        share, memory = 0.6 if kind == "image" else 0.4, _Memory(server)
        rows = _attack(kind, families, server, oracle, memory, round(hostile * share), round(good * share), seed, say)
        outcomes += [*rows, memory.outcome(f"the server's memory under {kind}s")]
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
    return Outcome("images: a hundred megabytes", counts.total(), said, wrong)


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
    """Return the fault of an outcome; empty if it is correct."""
    if outcome.embedding is None:
        assert outcome.error is not None
        if family in _ALWAYS_TAKEN:
            return f"refused: {outcome.error}"
        return "" if outcome.error.reason == wanted else f"refused ({outcome.error}) where {str(wanted)[:40]} is right"
    if family in _ALWAYS_REFUSED or isinstance(wanted, str):
        return f"embedded where {wanted!r:.40} is right"
    off = float(np.abs(outcome.embedding - wanted).max())
    return "" if off < _TOLERANCE else f"a vector off by {off:.1e}"


class _Memory:
    """The memory of the server and of its models' processes."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._seen: list[float] = []

    def look(self) -> None:
        self._seen.append(use_of(self._server.pid)["MiB"])

    def __str__(self) -> str:
        return f"{self._seen[-1]:.0f} MiB"

    def outcome(self, tried: str) -> Outcome:
        """Flat: the last third may have a tenth more than the one before it."""
        middle, last = middle_and_end(self._seen)
        wrong = [f"it grows: {[round(seen) for seen in self._seen]}"] if last > 1.1 * middle else []
        said = f"{middle:.0f} MiB in the middle, {last:.0f} MiB at the end"
        return Outcome(tried, len(self._seen), said, wrong)
