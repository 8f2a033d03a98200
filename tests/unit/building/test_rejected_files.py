"""Files of checkpoints that the build refuses: vocabularies, tokenizers, image processors and weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from tuwen_build.checkpoints._image_processor import saved_image_processor
from tuwen_build.checkpoints._json import load_json
from tuwen_build.checkpoints._pretrained import load_pretrained
from tuwen_build.checkpoints._tokenizer_json import read_byte_pairs, read_wordpiece
from tuwen_build.checkpoints._tokenizers import chinese_clip_tokenization, clip_tokenization, taiyi_tokenization
from tuwen_build.checkpoints._vocabulary import vocabulary_lines
from tuwen_build.errors import CheckpointError, VerificationError
from tuwen_build.verification import verify

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "猫"]
WORDPIECE: dict[str, Any] = {
    "normalizer": {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "model": {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {token: number for number, token in enumerate(TOKENS)},
    },
}


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    content = json.loads(json.dumps(WORDPIECE))
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].pop("vocab"), "expected an object of tokens and their ids in model.vocab"),
        (lambda c: c["model"]["vocab"].update({"猫": 7}), "expected the ids 0 to 4 in model.vocab, each id once"),
        (
            lambda c: c.update(added_tokens=[{"content": "<x>", "id": 9}]),
            'added_tokens holds "<x>" with id 9; supported are ',
        ),
        (lambda c: c.update(normalizer=None), "normalizer is null; expected BertNormalizer"),
        (lambda c: c["normalizer"].update(lowercase=False), "normalizer.lowercase is false, .*; supported: true"),
    ],
)
def test_names_the_part_of_tokenizer_json_that_differs(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(changed(change), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        read_wordpiece(file, lowercase=True, word_lengths=(100,))


def test_reads_the_unchanged_file(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(WORDPIECE), encoding="utf-8")
    assert read_wordpiece(tmp_path / "tokenizer.json", lowercase=True, word_lengths=(100,)) == TOKENS


def test_a_byte_pair_tokenizer_needs_its_normalizers(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({"normalizer": {"type": "Sequence", "normalizers": []}}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"normalizer.normalizers is \[\]; expected the \d parts NFC"):
        read_byte_pairs(file)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["[PAD]", "[UNK]", "[CLS]", "猫", "狗"], r"vocab.txt lacks \[SEP\]"),
        (["[UNK]", "[PAD]", "[CLS]", "[SEP]", "猫"], r"expected \[PAD\] as the first token"),
    ],
)
def test_a_vocabulary_needs_its_special_tokens(tmp_path: Path, tokens: list[str], message: str) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        chinese_clip_tokenization(tmp_path / "vocab.txt", 5, 52)


def test_a_vocabulary_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"\xff\n")
    with pytest.raises(CheckpointError, match="vocab.txt is not UTF-8 text"):
        vocabulary_lines(tmp_path / "vocab.txt")


def test_clip_needs_its_start_and_end_tokens(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}', encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"vocab.json lacks <\|endoftext\|>, <\|startoftext\|>"):
        clip_tokenization(tmp_path, 1, 77)


def test_taiyi_with_unsupported_tokenizer_rules_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenize_chinese_chars": false}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="says tokenize_chinese_chars false; supported: true"):
        taiyi_tokenization(tmp_path, 5, 512)


def test_a_json_file_that_is_not_an_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(CheckpointError, match="config.json is not a JSON object"):
        load_json(tmp_path / "config.json")


def test_an_image_processor_that_transformers_rejects_is_named(tmp_path: Path) -> None:
    settings = {"image_processor_type": "CLIPImageProcessor", "size": "huge", "crop_size": {"height": -1}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(CheckpointError, match="transformers cannot load the image processor"):
        saved_image_processor(tmp_path, 224, "crop")


def test_weights_that_transformers_cannot_load_are_named(checkpoint: Path, tmp_path: Path) -> None:
    class Broken:
        @staticmethod
        def from_pretrained(*_: Any, **__: Any) -> None:
            raise RuntimeError("cannot decode the header\nsecond line")

    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match="cannot load the weights: cannot decode the header$"):
        load_pretrained(Broken, folder)


def test_the_error_states_the_largest_difference_of_pixels() -> None:
    pixels = np.zeros((3, 2, 2), dtype=np.uint8)
    with pytest.raises(VerificationError, match="preprocessing differs from the reference on cat by up to 9 of 255"):
        verify._check_pixels("cat", pixels, pixels + 9)


def test_the_error_states_the_largest_difference_of_vectors() -> None:
    ours, theirs = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    with pytest.raises(VerificationError, match=r"the exported text encoder differs .*: up to 1.00e\+00 in a comp"):
        verify._judge("exported text encoder", [(ours, theirs)], verify.bound("fp32", 12))


def test_the_error_names_the_first_token_that_differs() -> None:
    assert verify._first_difference([1, 2], [1, 3]) == "token 1 is 2, the reference says 3"
