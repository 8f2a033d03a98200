"""Tests of one server with two models under load, while a model is replaced or an alias is switched.

With ``-s``, pytest prints the latencies of the other model before, during and after the replacement. The test does not
check them.
"""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.artefacts import Artefacts
from tests.support.command import wait_until
from tests.support.repositories import Built, minimal_clip, write_short_clip_vocabulary
from tests.support.servers import RecordedServer
from tuwen import Client, EmbeddingSpaceError, ServerError
from tuwen_build.options import BuildOptions
from tuwen_loadtest._usage import usage_of
from tuwen_repository.manifest import Manifest
from tuwen_server import ModelAdministrator, ServerOptions

pytestmark = pytest.mark.alone

KEY = "a-key-for-many-models"
IMAGES = [np.full((40, 30, 3), shade, dtype=np.uint8) for shade in (0, 90, 250)]
TEXTS = ["一只猫", "a cat", "dog"]
Vectors = tuple[NDArray[np.float32], NDArray[np.float32]]


class Caller:
    """A thread that embeds with one model without a pause, and compares every vector with the expected one.

    Attributes:
        latencies: for each answer, its time on the monotonic clock and its latency, both in seconds.
        refusals: the number of failed calls, by the name of the exception.
        spaces: the number of answers, by the fingerprint of the embedding space.
        wrong: descriptions of wrong vectors and unexpected exceptions.
    """

    def __init__(self, url: str, model: str, expected: dict[str, Vectors]) -> None:
        self.latencies: list[tuple[float, float]] = []
        self.refusals: Counter[str] = Counter()
        self.spaces: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._url, self._model, self._expected = url, model, expected
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with Client(self._url, model=self._model, remembered_texts=0, timeout=20) as clip:
                    self._embed(clip, self._expected[clip.model_card().fingerprint], clip.model_card().fingerprint)
            except (ServerError, EmbeddingSpaceError) as error:  # an expected error; the next round makes a new client
                self.refusals[type(error).__name__] += 1
                self._stop.wait(0.05)
            except Exception as error:
                self.wrong.append(repr(error))
                return

    def _embed(self, clip: Client, vectors: Vectors, space: str) -> None:
        calls: list[tuple[Callable[[Any], Any], list[Any], NDArray[np.float32]]] = [
            (clip.embed_images, IMAGES, vectors[0]),
            (clip.embed_texts, TEXTS, vectors[1]),
        ]
        while not self._stop.is_set():
            for call, items, expected in calls:
                start = time.monotonic()
                found = call(items)
                self.latencies.append((time.monotonic(), time.monotonic() - start))
                self.spaces[space] += 1
                if found.shape != expected.shape or np.abs(found - expected).max() > 1e-4:
                    self.wrong.append(f"a vector differs from the vectors of the space {space}")

    def p99(self, begin: float, end: float) -> float:
        """Return the 99th percentile of the latencies, in seconds, of the answers between two times."""
        found = [seconds for when, seconds in self.latencies if begin <= when < end]
        return float(np.percentile(found, 99)) if found else float("nan")


@pytest.fixture
def builds(built: Built, artefacts: Artefacts, tmp_path: Path) -> dict[str, Path]:
    """Return three repositories by name: ``b16``, ``clip``, and ``next clip``, another model with the name ``clip``."""
    vocabulary = write_short_clip_vocabulary(tmp_path / "vocabulary")

    def clip(dimension: int) -> Path:
        checkpoint = minimal_clip(artefacts, vocabulary, dimension=dimension)
        return built.of(checkpoint, "minimal-clip-repository", BuildOptions(name="clip"))

    return {"b16": built(BuildOptions(name="b16")), "clip": clip(16), "next clip": clip(24)}


def vectors_of(url: str, model: str) -> tuple[str, Vectors]:
    with Client(url, model=model) as clip:
        return clip.model_card().fingerprint, (clip.embed_images(IMAGES), clip.embed_texts(TEXTS))


def test_a_model_is_replaced_while_the_other_model_answers(builds: dict[str, Path], tmp_path: Path) -> None:
    models = tmp_path / "models"
    for name in ("b16", "clip"):
        shutil.copytree(builds[name], models / name)
    options = replace(ServerOptions.on_free_ports(), key=KEY)
    with RecordedServer(builds["next clip"], options) as alone:
        expected = dict([vectors_of(alone.grpc_url, "clip")])
    with (
        RecordedServer(cast("Any", [models]), options) as server,
        ModelAdministrator(server.grpc_url, key=KEY) as administrator,
    ):
        old = Manifest.read(models / "clip").fingerprint
        new = Manifest.read(builds["next clip"]).fingerprint
        expected |= dict(vectors_of(server.grpc_url, name) for name in ("b16", "clip"))
        with (
            Caller(server.grpc_url, "b16", expected) as steady,
            Caller(server.grpc_url, "clip", expected) as replaced,
        ):
            times = [time.monotonic()]
            wait_until(lambda: steady.wrong or min(sum(steady.spaces.values()), replaced.spaces[old]) >= 300)
            memory = [usage_of(server.pid).memory_mib]
            times.append(time.monotonic())
            administrator.unload("clip")
            wait_until(lambda: usage_of(server.pid).memory_mib < 0.8 * memory[0])
            memory.append(usage_of(server.pid).memory_mib)
            shutil.rmtree(models / "clip")
            shutil.copytree(builds["next clip"], models / "clip")
            wait_until(lambda: any("replaced" in line for line in server.refresh()))
            assert administrator.load("clip").fingerprint == new
            times.append(time.monotonic())
            wait_until(lambda: replaced.wrong or replaced.spaces[new] >= 300)
            memory.append(usage_of(server.pid).memory_mib)
            times.append(time.monotonic())
        assert server.trouble() is None
    p99 = [steady.p99(*span) for span in itertools.pairwise(times)]
    for label, seconds, mib in zip(("before", "unloaded and replaced", "after"), p99, memory, strict=True):
        print(f"b16 {label}: p99 {seconds * 1e3:.0f} ms; the server's memory {mib:.0f} MiB")
    print(f"clip: {dict(replaced.spaces)} {dict(replaced.refusals)}")
    assert steady.wrong == replaced.wrong == []
    assert steady.refusals == Counter()
    assert set(replaced.spaces) == {old, new}
    assert set(replaced.refusals) <= {"ServerStoppingError", "EmbeddingSpaceError"}
    assert memory[2] < 1.25 * memory[0]


def test_an_alias_is_switched_under_load(builds: dict[str, Path]) -> None:
    options = replace(ServerOptions.on_free_ports(), key=KEY)
    with (
        RecordedServer(cast("Any", [builds["b16"], builds["clip"]]), options) as server,
        ModelAdministrator(server.grpc_url, key=KEY) as administrator,
    ):
        expected = dict(vectors_of(server.grpc_url, name) for name in ("b16", "clip"))
        administrator.alias("shop", "b16")
        switches = ["clip", "b16"] * 3
        with Caller(server.grpc_url, "shop", expected) as caller:
            for target in switches:
                before = sum(caller.spaces.values())
                administrator.alias("shop", target)
                wait_until(lambda before=before: caller.wrong or sum(caller.spaces.values()) >= before + 50)
        assert caller.wrong == []
        assert set(caller.spaces) == set(expected)
        # After a switch, a client raises EmbeddingSpaceError once. No request is lost.
        assert set(caller.refusals) == {"EmbeddingSpaceError"}
        assert caller.refusals["EmbeddingSpaceError"] <= 2 * len(switches)
