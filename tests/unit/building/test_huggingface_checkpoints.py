"""The reading of checkpoints in the layout of Hugging Face, from folders and hubs, and the reasons for refusals."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.pickles import Bomb
from tests.support.repositories import SHORT_VOCABULARY
from tuwen_build.checkpoints import ReadOptions, _source, open_checkpoint
from tuwen_build.errors import CheckpointError


@pytest.fixture
def copied(short_checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(short_checkpoint, tmp_path / "checkpoint")


def test_rejects_a_missing_folder() -> None:
    with pytest.raises(CheckpointError, match="no such file or folder, and not a hub id"):
        open_checkpoint("/nowhere/at/all")


def test_rejects_a_folder_of_another_kind_and_lists_its_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(CheckpointError, match=r"not a checkpoint of a known layout\. It holds: config\.json"):
        open_checkpoint(str(tmp_path))


def test_rejects_a_fifo_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="is a FIFO, a socket or a device; expected a folder or a file"):
        open_checkpoint(str(tmp_path / "model.pt"))


def test_a_byte_order_mark_is_not_part_of_the_first_token(copied: Path, short_checkpoint: Path) -> None:
    (copied / "vocab.txt").write_bytes(b"\xef\xbb\xbf" + (copied / "vocab.txt").read_bytes())
    marked, plain = open_checkpoint(str(copied)), open_checkpoint(str(short_checkpoint))
    assert marked.tokenization.assets == plain.tokenization.assets
    assert marked.reference.tokenize("猫", 8) == plain.reference.tokenize("猫", 8)


def test_rejects_a_file_and_names_its_folder(short_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"is one file of a checkpoint; pass its folder, {short_checkpoint}"):
        open_checkpoint(str(short_checkpoint / "model.safetensors"))


@pytest.mark.parametrize(
    ("file", "message"), [("vocab.txt", "vocab.txt is missing"), ("model.safetensors", "no weights")]
)
def test_rejects_a_folder_without_a_needed_file(copied: Path, file: str, message: str) -> None:
    (copied / file).unlink()
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(str(copied))


def test_rejects_missing_weights(copied: Path) -> None:
    path = copied / "model.safetensors"
    weights = load_file(path)
    del weights["text_projection.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="do not fit config.json; missing: text_projection.weight"):
        open_checkpoint(str(copied))


def test_rejects_a_truncated_file(copied: Path) -> None:
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated or not a safetensors file"):
        open_checkpoint(str(copied))


def test_rejects_broken_json(copied: Path) -> None:
    (copied / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="config.json is not JSON"):
        open_checkpoint(str(copied))


def test_rejects_a_vocabulary_of_another_size(copied: Path) -> None:
    path = copied / "vocab.txt"
    path.write_text(path.read_text(encoding="utf-8") + "extra\n", encoding="utf-8")
    size = len(SHORT_VOCABULARY)
    with pytest.raises(
        CheckpointError, match=f"expected {size} tokens, as in the weights and in config.json; got {size + 1}"
    ):
        open_checkpoint(str(copied))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_center_crop": True}, "says do_center_crop true; this family squashes"),
        ({"size": {"height": 99, "width": 99}}, "expected size 32, which is image_size in config.json; got 99"),
        ({"resample": 2}, "bicubic"),
    ],
)
def test_rejects_preprocessing_of_another_family(copied: Path, settings: dict[str, object], message: str) -> None:
    (copied / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(str(copied))


def test_reads_pickled_weights(copied: Path, short_checkpoint: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    torch.save(weights, copied / "pytorch_model.bin")
    loaded = open_checkpoint(str(copied)).text.state_dict()
    for name, tensor in open_checkpoint(str(short_checkpoint)).text.state_dict().items():
        torch.testing.assert_close(loaded[name], tensor, rtol=0, atol=0)


def test_reads_a_hub_id_from_the_hub_cache(short_checkpoint: Path, hub_cache: Path) -> None:
    """A hub id is found in the cache that a download left behind. No network is needed."""
    snapshot = hub_cache / "models--someone--small-clip" / "snapshots" / ("0" * 40)
    shutil.copytree(short_checkpoint, snapshot)
    (hub_cache / "models--someone--small-clip" / "refs").mkdir()
    (hub_cache / "models--someone--small-clip" / "refs" / "main").write_text("0" * 40)
    assert open_checkpoint("someone/small-clip").embedding_dimension == 16


@pytest.mark.usefixtures("hub_cache")
def test_rejects_a_hub_id_that_cannot_be_fetched() -> None:
    with pytest.raises(CheckpointError, match="someone/other-clip is not in the hub's cache"):
        open_checkpoint("someone/other-clip")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_rejects_weights_that_config_json_does_not_mention(copied: Path) -> None:
    """Weights of layers that config.json does not have are refused.

    Without these layers, the build would make a model that was never trained.
    """
    path = copied / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["text_config"]["num_hidden_layers"] = 1
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"do not fit config\.json; unexpected: text_model\.encoder\.layer\.1"):
        open_checkpoint(str(copied))


def test_rejects_weights_of_another_shape(copied: Path) -> None:
    path = copied / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["projection_dim"] = 8
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"of another shape: text_projection\.weight \(16, 32\), visual"):
        open_checkpoint(str(copied))


def test_ignores_tensors_of_old_releases(copied: Path) -> None:
    path = copied / "model.safetensors"
    weights = load_file(path)
    weights["text_model.embeddings.position_ids"] = torch.arange(64)[None]
    weights["text_model.pooler.dense.weight"] = torch.zeros(32, 32)
    weights["text_model.pooler.dense.bias"] = torch.zeros(32)
    save_file(weights, path, metadata={"format": "pt"})
    assert open_checkpoint(str(copied)).embedding_dimension == 16


def test_does_not_load_a_pickle_that_would_run_code(copied: Path, tmp_path: Path) -> None:
    (copied / "model.safetensors").unlink()
    torch.save({"text_projection.weight": Bomb(tmp_path / "exploded")}, copied / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin was not loaded, because it holds more than weights"):
        open_checkpoint(str(copied))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("options", [ReadOptions(vision="openai/clip-vit-base-patch32"), ReadOptions(heads=(12, 12))])
def test_rejects_options_that_the_files_make_needless(short_checkpoint: Path, options: ReadOptions) -> None:
    with pytest.raises(CheckpointError, match=r"--(vision|heads) does not apply to .*; leave the option out"):
        open_checkpoint(str(short_checkpoint), options)


class TestFetching:
    """The files that the build fetches from the hubs. Functions of the test take the place of the hubs' clients."""

    @pytest.mark.parametrize(
        ("names", "kind"),
        [
            (["config.json", "model.safetensors", "pytorch_model.bin", "clip_cn_vit-b-16.pt"], "*.safetensors"),
            (["config.json", "pytorch_model.bin", "clip_cn_vit-b-16.pt", "training_args.bin"], "pytorch_model*.bin"),
            (["README.md", "clip_cn_rn50.pt"], "*.pt"),
        ],
    )
    def test_fetches_one_kind_of_weights(
        self, names: list[str], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[list[str]] = []

        def fetch(_: str, allow_patterns: list[str]) -> str:
            asked.append(allow_patterns)
            return str(tmp_path)

        monkeypatch.setattr(_source, "hub_files", lambda _: names)
        monkeypatch.setattr(_source, "snapshot_download", fetch)
        assert _source.locate("someone/clip") == tmp_path
        assert asked == [["*.json", "*.txt", kind]]

    def test_fetches_damo_from_modelscope(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = ModuleType("modelscope")
        fake.snapshot_download = lambda _: str(tmp_path)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "modelscope", fake)
        assert _source.locate("damo/multi-modal_clip-vit-base-patch16_zh") == tmp_path

    def test_asks_for_the_modelscope_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "modelscope", None)
        with pytest.raises(
            CheckpointError, match="from ModelScope needs a library: pip install modelscope; or download"
        ):
            open_checkpoint("damo/multi-modal_clip-vit-base-patch16_zh")

    def test_rejects_a_modelscope_id_that_cannot_be_fetched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: str) -> str:
            raise OSError("no route to host")

        fake = ModuleType("modelscope")
        fake.snapshot_download = fail  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "modelscope", fake)
        with pytest.raises(CheckpointError, match="cannot fetch damo/clip from ModelScope: no route to host"):
            open_checkpoint("damo/clip")
