"""Tests of `tuwen tune` with real trials: the written settings, and unchanged vectors."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.command import tuwen
from tests.support.servers import RecordedServer
from tuwen import Client
from tuwen_repository.checksums import sha256_of
from tuwen_repository.configs import config_path, read_config
from tuwen_repository.manifest import Manifest
from tuwen_repository.samples import sample
from tuwen_server import ServerOptions
from tuwen_server._remote import RemoteControl
from tuwen_server.tuning._settings import ENCODERS

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def tuned(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the repository after `tuwen tune`."""
    copied = tmp_path_factory.mktemp("tune") / "repository"
    shutil.copytree(repository, copied)
    shown = tuwen("tune", str(copied), "--seconds", "0.4", "--longest-wait", "0.5").stdout
    assert shown.count("chosen") == 2
    assert "A request that waits longer than 0.5 s in a queue is refused." in shown
    return copied


def test_writes_the_best_settings_into_the_repository(tuned: Path) -> None:
    evidence = json.loads((tuned / "tuning.json").read_text(encoding="utf-8"))
    assert len(evidence["trials"]) >= 6
    assert evidence["longest_wait"] == 0.5
    for kind, model in ENCODERS.items():
        chosen, written = evidence["chosen"][kind], read_config(config_path(tuned, model))
        assert chosen in evidence["trials"]
        threads = chosen["settings"]["threads"]
        rates = [
            trial["rate"]
            for trial in evidence["trials"]
            if (trial["kind"], trial["settings"]["threads"]) == (kind, threads)
        ]
        assert chosen["rate"] >= 0.97 * max(rates)
        assert written.instance_group[0].count == chosen["settings"]["instances"]
        assert written.parameters["INTRA_OP_THREAD_COUNT"].string_value == str(chosen["settings"]["threads"])
        assert written.dynamic_batching.max_queue_delay_microseconds == chosen["settings"]["delay_microseconds"]
        assert written.dynamic_batching.default_queue_policy.default_timeout_microseconds == 500_000
    assert len({chosen["settings"]["threads"] for chosen in evidence["chosen"].values()}) == 1


def test_the_manifest_lists_the_new_files(tuned: Path) -> None:
    files = Manifest.read(tuned).files
    assert "tuning.json" in files
    assert {name: sha256_of(tuned / name) for name in files} == files


def test_tuning_changes_no_vector_and_leaves_no_trial_behind(tuned: Path, client: Client) -> None:
    assert [path.name for path in tuned.parent.iterdir()] == ["repository"]
    with (
        RecordedServer(tuned) as server,
        Client(server.grpc_url, timeout=60, expected_fingerprint=client.model_card().fingerprint) as clip,
    ):
        image = sample("cat.jpg")
        np.testing.assert_allclose(clip.embed_images([image]), client.embed_images([image]), atol=1e-5)


def test_a_running_server_is_tuned_without_a_restart(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = shutil.copytree(repository, tmp_path / "repository")
    key = "a-key-of-sixteen-characters"
    with RecordedServer(copied, replace(ServerOptions.on_free_ports(), key=key)) as server:
        command = ("tune", str(copied), "--url", server.grpc_url, "--seconds", "0.4")
        assert "set TUWEN_SERVER_KEY" in tuwen(*command, code=1).stderr
        monkeypatch.setenv("TUWEN_SERVER_KEY", key)
        assert tuwen(*command).stdout.count("chosen") == 2
        assert server.trouble() is None
        with Client(server.grpc_url, timeout=60) as clip:
            assert clip.embed_texts(["一只猫"]).shape == (1, clip.model_card().embedding_dimension)
        control = RemoteControl(server.grpc_url, key=key)
        running = {model: control.config(model).instance_group[0].count for model in ENCODERS.values()}
        control.close()
    evidence = json.loads((copied / "tuning.json").read_text(encoding="utf-8"))
    assert running == {model: evidence["chosen"][kind]["settings"]["instances"] for kind, model in ENCODERS.items()}
    assert evidence["cores"] is None
    Manifest.read(copied).check(copied)
