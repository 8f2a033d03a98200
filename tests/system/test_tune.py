"""`tuwen tune`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.command import tuwen
from tests.support.servers import RecordedServer
from tuwen import Client
from tuwen_build.configs import config_path, read_config
from tuwen_build.hashing import sha256_of
from tuwen_build.manifest import Manifest
from tuwen_build.repository import build_repository
from tuwen_build.samples import sample
from tuwen_build.server import ServerOptions
from tuwen_build.tuning import Settings, Trial
from tuwen_build.tuning._settings import ENCODERS, layouts
from tuwen_build.tuning._tuner import best_of

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def tuned(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("tune") / "repository"
    build_repository(str(checkpoint), repository)
    shown = tuwen("tune", str(repository), "--seconds", "0.4", "--longest-wait", "0.5").stdout
    assert shown.count("chosen") == 2
    assert "What waits longer than 0.5 s for its turn is refused." in shown
    return repository


def test_the_repository_runs_as_was_best(tuned: Path) -> None:
    evidence = json.loads((tuned / "tuning.json").read_text(encoding="utf-8"))
    assert len(evidence["trials"]) >= 6
    assert evidence["longest_wait"] == 0.5
    for kind, model in ENCODERS.items():
        chosen, written = evidence["chosen"][kind], read_config(config_path(tuned, model))
        assert chosen in evidence["trials"]
        assert chosen["rate"] >= 0.97 * max(trial["rate"] for trial in evidence["trials"] if trial["kind"] == kind)
        assert written.instance_group[0].count == chosen["settings"]["instances"]
        assert written.parameters["INTRA_OP_THREAD_COUNT"].string_value == str(chosen["settings"]["threads"])
        assert written.dynamic_batching.max_queue_delay_microseconds == chosen["settings"]["delay_microseconds"]
        assert written.dynamic_batching.default_queue_policy.default_timeout_microseconds == 500_000


def test_the_manifest_knows_the_new_files(tuned: Path) -> None:
    files = Manifest.read(tuned).files
    assert "tuning.json" in files
    assert {name: sha256_of(tuned / name) for name in files} == files


def test_vectors_stay_the_same_and_no_trial_is_left(tuned: Path, client: Client) -> None:
    assert [path.name for path in tuned.parent.iterdir()] == ["repository"]
    with (
        RecordedServer(tuned, ServerOptions.on_free_ports()) as server,
        Client(server.grpc_url, timeout=60, expected_fingerprint=client.model_card().fingerprint) as clip,
    ):
        image = sample("cat.jpg")
        np.testing.assert_allclose(clip.embed_images([image]), client.embed_images([image]), atol=1e-5)


def test_what_cannot_be_tuned_is_said(tmp_path: Path) -> None:
    for arguments, message in (
        ((str(tmp_path),), "is not a built repository"),
        ((str(tmp_path), "--seconds", "0"), "seconds must be more than 0"),
        ((str(tmp_path), "--longest-wait", "-1"), "the longest wait must be more than 0"),
    ):
        assert message in tuwen("tune", *arguments, code=1).stderr


def test_a_cpu_is_split_in_every_way_and_a_gpu_is_shared() -> None:
    assert layouts(1, on_gpu=False) == [(1, 1)]
    assert layouts(6, on_gpu=False) == [(1, 6), (2, 3), (4, 1)]
    assert layouts(96, on_gpu=False) == [(1, 96), (2, 48), (4, 24), (8, 12)]
    assert layouts(96, on_gpu=True) == [(1, 0), (2, 0), (3, 0)]


def test_of_equally_fast_ones_the_quickest_alone_is_best() -> None:
    def trial(rate: float, alone: float, kind: str = "images") -> Trial:
        return Trial(kind, Settings(1, 1, 100), rate, 4.0, alone)

    slow, noise, best = trial(90, 0.01), trial(100, 0.05), trial(98, 0.02)
    assert best_of([slow, noise, best, trial(500, 0.001, "texts")], "images") is best
