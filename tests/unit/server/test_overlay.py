"""The configurations that the embedded server gets in place of the built ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.support.paths import ROOT
from tuwen_build.configs import config_path, read_config, write_config
from tuwen_build.server._overlay import MAX_WAITING, lay_over

MODELS = (
    "image_embedding",
    "image_preprocessing",
    "text_embedding",
    "text_encoder",
    "text_tokenization",
    "vision_encoder",
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the model repository's sources, with the file of weights that a build would add."""
    folder = tmp_path / "built"
    for model in MODELS:
        shutil.copytree(ROOT / "model_repository" / model, folder / model)
    (folder / "text_encoder" / "1").mkdir()
    (folder / "text_encoder" / "1" / "model.pt").write_bytes(b"weights")
    (folder / "manifest.json").write_text("{}", encoding="utf-8")
    return folder


def overlaid(repository: Path, model: str) -> ModelConfig:
    return read_config(config_path(lay_over(repository, repository.parent / "scratch"), model))


@pytest.mark.parametrize("model", ["image_preprocessing", "text_encoder", "vision_encoder"])
def test_no_queue_has_a_policy_or_priorities(repository: Path, model: str) -> None:
    """With any of them, the batcher of Triton 2.51 sleeps up to 500 ms while an instance is free."""
    batching = overlaid(repository, model).dynamic_batching
    assert batching.SerializeToString() == b""


@pytest.mark.parametrize("model", ["text_encoder", "vision_encoder"])
def test_an_encoder_learns_how_long_a_request_may_wait(repository: Path, model: str) -> None:
    built = read_config(config_path(repository, model)).dynamic_batching.default_queue_policy
    assert overlaid(repository, model).parameters[MAX_WAITING].string_value == str(built.default_timeout_microseconds)


def test_the_cache_is_off_because_it_would_keep_refusals(repository: Path) -> None:
    assert not overlaid(repository, "text_encoder").HasField("response_cache")


def test_a_delay_that_was_tuned_is_kept(repository: Path) -> None:
    path = config_path(repository, "vision_encoder")
    config = read_config(path)
    config.dynamic_batching.max_queue_delay_microseconds = 2000
    write_config(config, path)
    assert overlaid(repository, "vision_encoder").dynamic_batching.max_queue_delay_microseconds == 2000


def test_models_without_a_policy_keep_their_configuration(repository: Path) -> None:
    for model in ("image_embedding", "text_embedding", "text_tokenization"):
        folder = lay_over(repository, repository.parent / model)
        assert read_config(config_path(folder, model)) == read_config(config_path(repository, model))


def test_every_other_file_is_the_built_one(repository: Path) -> None:
    folder = lay_over(repository, repository.parent / "scratch")
    assert {path.name for path in folder.iterdir()} == set(MODELS)
    assert (folder / "text_encoder" / "1" / "model.pt").samefile(repository / "text_encoder" / "1" / "model.pt")


def test_the_built_repository_stays_as_it_is(repository: Path) -> None:
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    lay_over(repository, repository.parent / "scratch")
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before
