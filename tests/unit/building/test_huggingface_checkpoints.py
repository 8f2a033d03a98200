"""Checkpoints in the layout of Hugging Face, and from its hub: read, or refused with a reason."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.pickles import Bomb
from tuwen_build.checkpoints import ReadOptions, _source, open_checkpoint
from tuwen_build.errors import CheckpointError


@pytest.fixture
def copied_checkpoint(checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(checkpoint, tmp_path / "checkpoint")


def test_a_missing_folder() -> None:
    with pytest.raises(CheckpointError, match="no such file or folder, and not a hub id"):
        open_checkpoint("/nowhere/at/all")


def test_a_folder_of_another_kind_is_named_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(CheckpointError, match=r"no checkpoint that this build knows\. It holds: config\.json"):
        open_checkpoint(str(tmp_path))


def test_one_file_of_a_folder(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"is one file of a checkpoint; give its folder, {checkpoint}"):
        open_checkpoint(str(checkpoint / "model.safetensors"))


@pytest.mark.parametrize(
    ("file", "message"), [("vocab.txt", "vocab.txt is missing"), ("model.safetensors", "no weights")]
)
def test_a_missing_file(copied_checkpoint: Path, file: str, message: str) -> None:
    (copied_checkpoint / file).unlink()
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(str(copied_checkpoint))


def test_missing_weights_are_not_made_up(copied_checkpoint: Path) -> None:
    path = copied_checkpoint / "model.safetensors"
    weights = load_file(path)
    del weights["text_projection.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="do not fit config.json: missing: text_projection.weight"):
        open_checkpoint(str(copied_checkpoint))


def test_a_truncated_file(copied_checkpoint: Path) -> None:
    path = copied_checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated, or no safetensors file"):
        open_checkpoint(str(copied_checkpoint))


def test_broken_json(copied_checkpoint: Path) -> None:
    (copied_checkpoint / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="config.json is not JSON"):
        open_checkpoint(str(copied_checkpoint))


def test_a_vocabulary_of_another_model(copied_checkpoint: Path) -> None:
    path = copied_checkpoint / "vocab.txt"
    path.write_text(path.read_text(encoding="utf-8") + "extra\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="has 21129 tokens, the weights and config.json have 21128"):
        open_checkpoint(str(copied_checkpoint))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_center_crop": True}, "says do_center_crop true; this family squashes"),
        ({"size": {"height": 99, "width": 99}}, "size is 99 pixels, config.json says image_size 64"),
        ({"resample": 2}, "bicubic"),
    ],
)
def test_preprocessing_of_another_family(copied_checkpoint: Path, settings: dict[str, object], message: str) -> None:
    (copied_checkpoint / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(str(copied_checkpoint))


def test_pickled_weights_load_too(copied_checkpoint: Path, checkpoint: Path) -> None:
    weights = load_file(copied_checkpoint / "model.safetensors")
    (copied_checkpoint / "model.safetensors").unlink()
    torch.save(weights, copied_checkpoint / "pytorch_model.bin")
    loaded = open_checkpoint(str(copied_checkpoint)).text.state_dict()
    for name, tensor in open_checkpoint(str(checkpoint)).text.state_dict().items():
        torch.testing.assert_close(loaded[name], tensor, rtol=0, atol=0)


def test_a_hub_id_is_read_through_the_hubs_cache(checkpoint: Path, hub_cache: Path) -> None:
    """The layout of the hub's own cache, as a download leaves it; no network is needed to read it."""
    snapshot = hub_cache / "models--someone--small-clip" / "snapshots" / ("0" * 40)
    shutil.copytree(checkpoint, snapshot)
    (hub_cache / "models--someone--small-clip" / "refs").mkdir()
    (hub_cache / "models--someone--small-clip" / "refs" / "main").write_text("0" * 40)
    assert open_checkpoint("someone/small-clip").embedding_dimension == 64


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_that_is_out_of_reach() -> None:
    with pytest.raises(CheckpointError, match="cannot fetch someone/other-clip from the hub"):
        open_checkpoint("someone/other-clip")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_weights_left_over_are_of_another_checkpoint(copied_checkpoint: Path) -> None:
    """A config.json with fewer layers than the weights would build a model that nobody trained."""
    path = copied_checkpoint / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["text_config"]["num_hidden_layers"] = 2
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"do not fit config\.json: unexpected: text_model\.encoder\.layer\.2"):
        open_checkpoint(str(copied_checkpoint))


def test_weights_of_another_size(copied_checkpoint: Path) -> None:
    path = copied_checkpoint / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["projection_dim"] = 32
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"of another shape: text_projection\.weight \(64, 96\), visual"):
        open_checkpoint(str(copied_checkpoint))


def test_what_old_files_hold_beside_the_model_is_ignored(copied_checkpoint: Path) -> None:
    path = copied_checkpoint / "model.safetensors"
    weights = load_file(path)
    weights["text_model.embeddings.position_ids"] = torch.arange(512)[None]
    weights["text_model.pooler.dense.weight"] = torch.zeros(96, 96)
    weights["text_model.pooler.dense.bias"] = torch.zeros(96)
    save_file(weights, path, metadata={"format": "pt"})
    assert open_checkpoint(str(copied_checkpoint)).embedding_dimension == 64


def test_a_pickle_that_would_run_code_is_not_loaded(copied_checkpoint: Path, tmp_path: Path) -> None:
    (copied_checkpoint / "model.safetensors").unlink()
    torch.save({"text_projection.weight": Bomb(tmp_path / "exploded")}, copied_checkpoint / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is not a file of weights alone"):
        open_checkpoint(str(copied_checkpoint))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("options", [ReadOptions(vision="openai/clip-vit-base-patch32"), ReadOptions(heads=(12, 12))])
def test_flags_that_the_files_make_needless(checkpoint: Path, options: ReadOptions) -> None:
    with pytest.raises(CheckpointError, match=r"needs no --(vision|heads): its files tell"):
        open_checkpoint(str(checkpoint), options)


class TestFetching:
    """What is asked of the hubs; nothing here reaches them."""

    @pytest.mark.parametrize(
        ("names", "kind"),
        [
            (["config.json", "model.safetensors", "pytorch_model.bin", "clip_cn_vit-b-16.pt"], "*.safetensors"),
            (["config.json", "pytorch_model.bin", "clip_cn_vit-b-16.pt", "training_args.bin"], "pytorch_model*.bin"),
            (["README.md", "clip_cn_rn50.pt"], "*.pt"),
        ],
    )
    def test_one_kind_of_weights_is_fetched(
        self, names: list[str], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[list[str]] = []

        def fetch(_: str, allow_patterns: list[str]) -> str:
            asked.append(allow_patterns)
            return str(tmp_path)

        monkeypatch.setattr(_source, "list_repo_files", lambda _: names)
        monkeypatch.setattr(_source, "snapshot_download", fetch)
        assert _source.locate("someone/clip") == tmp_path
        assert asked == [["*.json", "*.txt", kind]]

    def test_damo_is_on_modelscope(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = ModuleType("modelscope")
        fake.snapshot_download = lambda _: str(tmp_path)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "modelscope", fake)
        assert _source.locate("damo/multi-modal_clip-vit-base-patch16_zh") == tmp_path

    def test_modelscope_without_its_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "modelscope", None)
        with pytest.raises(CheckpointError, match="on ModelScope's hub: pip install modelscope, or download it"):
            open_checkpoint("damo/multi-modal_clip-vit-base-patch16_zh")

    def test_modelscope_out_of_reach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: str) -> str:
            raise OSError("no route to host")

        fake = ModuleType("modelscope")
        fake.snapshot_download = fail  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "modelscope", fake)
        with pytest.raises(CheckpointError, match="cannot fetch damo/clip from ModelScope: no route to host"):
            open_checkpoint("damo/clip")
