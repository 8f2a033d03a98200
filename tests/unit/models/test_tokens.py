"""The tokenizer core: the originals' ids, padding, truncation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import BertTokenizer

from tests.support.checkpoints import run_reference
from tests.support.models import model_module
from tuwen_build.samples import SampleText, awkward_texts, vocabulary

tokens = model_module("text_tokenization", "tokens")
wordpiece = model_module("text_tokenization", "wordpiece")
byte_pairs = model_module("text_tokenization", "byte_pairs")

VOCABULARY = {token: index for index, token in enumerate(vocabulary().read_text(encoding="utf-8").split("\n")[:-1])}
TEXTS = pytest.mark.parametrize("text", awkward_texts(), ids=lambda entry: entry.name)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tokens.TextTokenizer(wordpiece.ChineseClipWordPiece(VOCABULARY), context_length=52)


@pytest.fixture(scope="module")
def clip_vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    run_reference("open_clip_reference.py", "vocabulary", str(folder))
    return folder


@pytest.fixture(scope="module")
def clip_tokenizer(clip_vocabulary: Path) -> Any:
    ids = json.loads((clip_vocabulary / "vocab.json").read_text(encoding="utf-8"))
    merges = (clip_vocabulary / "merges.txt").read_text(encoding="utf-8").splitlines()
    return tokens.TextTokenizer(byte_pairs.ClipBytePairs(ids, merges), context_length=77)


def assert_ids(tokenizer: Any, text: str, expected: list[int]) -> None:
    encoded = tokenizer.encode([text])
    assert encoded.input_ids[0, : len(expected)].tolist() == expected
    assert encoded.input_ids[0, len(expected) :].sum() == 0
    assert encoded.attention_mask[0].sum() == len(expected)


class TestIds:
    @TEXTS
    def test_chinese_clip_like_cn_clip(self, tokenizer: Any, text: SampleText) -> None:
        ids = text.token_ids["chinese_clip_wordpiece"]
        assert_ids(tokenizer, text.text, [101, *ids[:50], 102])
        assert tokenizer.encode([text.text]).truncated[0] == (len(ids) > 50)

    @TEXTS
    def test_clip_like_open_clip(self, clip_tokenizer: Any, text: SampleText) -> None:
        ids = text.token_ids["clip_bpe"]
        assert_ids(clip_tokenizer, text.text, [49406, *ids[:75], 49407])
        assert clip_tokenizer.encode([text.text]).truncated[0] == (len(ids) > 75)

    @TEXTS
    @pytest.mark.parametrize("lowercase", [True, False])
    def test_taiyi_like_transformers(self, text: SampleText, lowercase: bool) -> None:
        rules = wordpiece.BertWordPiece(VOCABULARY, lowercase=lowercase)
        theirs = BertTokenizer(vocab=VOCABULARY, do_lower_case=lowercase)
        expected = theirs(text.text, truncation=True, max_length=77, split_special_tokens=True)["input_ids"]
        assert_ids(tokens.TextTokenizer(rules, context_length=77), text.text, expected)

    def test_special_tokens_that_a_user_types_are_text(self, tokenizer: Any, clip_tokenizer: Any) -> None:
        taiyi = wordpiece.BertWordPiece(VOCABULARY, lowercase=True)
        assert not {100, 101, 102, 103} & set(taiyi.token_ids(["[SEP][CLS][MASK][UNK]"])[0])
        assert tokenizer.encode(["[SEP][CLS]"]).input_ids[0].tolist().count(102) == 1
        assert clip_tokenizer.encode(["<|endoftext|> cat"]).input_ids[0].tolist().count(49407) == 1

    def test_merges_of_any_release(self, clip_vocabulary: Path) -> None:
        """Some releases of merges.txt name another file in their first line, and go on after the last merge."""
        ids = json.loads((clip_vocabulary / "vocab.json").read_text(encoding="utf-8"))
        merges = (clip_vocabulary / "merges.txt").read_text(encoding="utf-8").splitlines()
        english = next(text for text in awkward_texts() if text.name == "english")
        for lines in (merges[1:], ['"bpe_simple_vocab_16e6.txt#version: 0.2', *merges[1:], "no token</w>"]):
            rules = byte_pairs.ClipBytePairs(ids, lines)
            assert rules.token_ids([english.text]) == [list(english.token_ids["clip_bpe"])]

    def test_quotes_are_straightened_on_request(self) -> None:
        straight = wordpiece.ChineseClipWordPiece(VOCABULARY, straighten_quotes=True)
        assert straight.token_ids(["“猫”"]) == straight.token_ids(['"猫"'])


class TestPadding:
    @pytest.mark.parametrize("characters", [0, 14, 50, 51, 999])
    def test_all_texts_get_one_length(self, tokenizer: Any, characters: int) -> None:
        """Triton ends a batch at the first request of another shape."""
        encoded = tokenizer.encode(["猫", "猫" * characters])
        assert encoded.input_ids.shape == encoded.attention_mask.shape == (2, 52)
        assert encoded.input_ids.dtype == encoded.attention_mask.dtype == np.int64
        assert encoded.attention_mask.sum(axis=1).tolist() == [3, min(characters, 50) + 2]
        assert encoded.truncated.tolist() == [False, characters > 50]

    def test_no_texts_are_no_rows(self, tokenizer: Any) -> None:
        assert tokenizer.encode([]).input_ids.shape == (0, 52)

    def test_unmasked_texts_attend_to_all_their_padding(self) -> None:
        rules = wordpiece.BertWordPiece(VOCABULARY, lowercase=True)
        unmasked = tokens.TextTokenizer(rules, context_length=77, unmasked=True)
        encoded = unmasked.encode(["猫", "一只狗"])
        assert encoded.input_ids.shape == (2, 77)
        assert encoded.attention_mask.min() == 1
        assert encoded.input_ids[0, 3:].max() == 0


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    settings = {"kind": "guess", "rules": {}, "context_length": 52, "unmasked": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="unknown tokenizer kind 'guess'"):
        tokens.load_tokenizer(tmp_path)
