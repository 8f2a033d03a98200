"""The configurations that the embedded server gets in place of the built configurations."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.support.paths import ROOT
from tuwen_repository.configs import config_path, read_config, write_config
from tuwen_server._overlay import CACHE_BYTES, MAX_WAITING, Overlay

MODELS = (
    "image_embedding",
    "image_preprocessing",
    "pixel_embedding",
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


def overlay(repository: Path, *, queue_policies: bool = False, cache_mib: int = 64) -> Path:
    laid = Overlay(repository.parent / "scratch", queue_policies=queue_policies, cache_mib=cache_mib)
    laid.add(repository)
    return laid.folder


def overlaid(repository: Path, model: str, *, queue_policies: bool = False, cache_mib: int = 64) -> ModelConfig:
    folder = overlay(repository, queue_policies=queue_policies, cache_mib=cache_mib)
    return read_config(config_path(folder, model))


@pytest.mark.parametrize("model", ["image_preprocessing", "text_encoder", "vision_encoder"])
def test_no_queue_has_a_policy_or_priorities(repository: Path, model: str) -> None:
    """No queue of the overlay has a policy or priorities.

    With a policy or priorities, the batcher of Triton 2.51 sleeps for up to 500 ms while an instance is free.
    """
    batching = overlaid(repository, model).dynamic_batching
    assert batching.SerializeToString() == b""


@pytest.mark.parametrize("model", ["text_encoder", "vision_encoder"])
def test_an_encoder_learns_how_long_a_request_may_wait(repository: Path, model: str) -> None:
    built = read_config(config_path(repository, model)).dynamic_batching.default_queue_policy
    assert overlaid(repository, model).parameters[MAX_WAITING].string_value == str(built.default_timeout_microseconds)


@pytest.mark.parametrize("queue_policies", [False, True])
def test_the_text_encoder_has_a_cache_whatever_the_queues_are(repository: Path, queue_policies: bool) -> None:
    config = overlaid(repository, "text_encoder", queue_policies=queue_policies, cache_mib=3)
    assert config.parameters[CACHE_BYTES].string_value == str(3 << 20)


def test_a_size_of_zero_leaves_the_cache_out(repository: Path) -> None:
    assert CACHE_BYTES not in overlaid(repository, "text_encoder", cache_mib=0).parameters


def test_the_instances_of_the_text_encoder_share_the_memory_of_the_cache(repository: Path) -> None:
    path = config_path(repository, "text_encoder")
    config = read_config(path)
    config.instance_group[0].count = 4
    write_config(config, path)
    assert overlaid(repository, "text_encoder", cache_mib=2).parameters[CACHE_BYTES].string_value == str(1 << 19)


@pytest.mark.parametrize("model", sorted({*MODELS} - {"text_encoder"}))
def test_no_other_model_has_a_cache(repository: Path, model: str) -> None:
    assert CACHE_BYTES not in overlaid(repository, model).parameters


def test_a_text_encoder_under_another_backend_gets_no_parameter_of_ours(repository: Path) -> None:
    path = config_path(repository, "text_encoder")
    config = read_config(path)
    config.backend = "python"
    write_config(config, path)
    assert CACHE_BYTES not in overlaid(repository, "text_encoder").parameters


@pytest.mark.parametrize("queue_policies", [False, True])
def test_triton_s_response_cache_is_off_in_a_repository_that_asks_for_it(
    repository: Path, queue_policies: bool
) -> None:
    """The overlay turns Triton's response cache off, because that cache stores a failed request as an empty success."""
    path = config_path(repository, "text_encoder")
    config = read_config(path)
    config.response_cache.enable = True
    write_config(config, path)
    assert not overlaid(repository, "text_encoder", queue_policies=queue_policies).HasField("response_cache")


@pytest.mark.parametrize("model", MODELS)
def test_queue_policies_and_priorities_can_be_kept(repository: Path, model: str) -> None:
    built = read_config(config_path(repository, model))
    config = overlaid(repository, model, queue_policies=True)
    assert config.dynamic_batching == built.dynamic_batching
    assert MAX_WAITING not in config.parameters


def test_a_delay_that_was_tuned_is_kept(repository: Path) -> None:
    path = config_path(repository, "vision_encoder")
    config = read_config(path)
    config.dynamic_batching.max_queue_delay_microseconds = 2000
    write_config(config, path)
    assert overlaid(repository, "vision_encoder").dynamic_batching.max_queue_delay_microseconds == 2000


def test_models_without_a_policy_keep_their_configuration(repository: Path) -> None:
    folder = overlay(repository)
    for model in ("image_embedding", "pixel_embedding", "text_embedding", "text_tokenization"):
        assert read_config(config_path(folder, model)) == read_config(config_path(repository, model))


def test_every_other_file_equals_the_built_file(repository: Path) -> None:
    folder = overlay(repository)
    assert {path.name for path in folder.iterdir()} == set(MODELS)
    assert (folder / "text_encoder" / "1" / "model.pt").samefile(repository / "text_encoder" / "1" / "model.pt")


def test_the_built_repository_stays_as_it_is(repository: Path) -> None:
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    overlay(repository)
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("model", ["text_encoder", "vision_encoder"])
def test_a_warm_up_with_a_full_batch_is_left_out(repository: Path, model: str) -> None:
    """The overlay removes a warm-up with a full batch.

    Without a GPU, a full batch could take minutes. On a GPU, the backend computes a full batch itself.
    """
    path = config_path(repository, model)
    config = read_config(path)
    small = list(config.model_warmup)
    full = config.model_warmup.add()
    full.CopyFrom(small[0])
    full.name, full.batch_size = "full_batch", 32
    write_config(config, path)
    assert small
    assert list(overlaid(repository, model).model_warmup) == small
