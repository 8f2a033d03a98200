"""The tokenizers give the ids of the original implementations, and truncate and pad texts.

The ids of open_clip need its vocabulary, so `tests/service/test_reference_tokens.py` tests them.
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import BertTokenizer

from tests.support.models import model_module
from tests.support.repositories import write_short_clip_vocabulary
from tuwen_repository.samples import SampleText, awkward_texts, vocabulary

tokens = model_module("text_tokenization", "tokens")
wordpiece = model_module("text_tokenization", "wordpiece")
byte_pairs = model_module("text_tokenization", "byte_pairs")
bounds = model_module("text_tokenization", "bounds")

VOCABULARY = {token: index for index, token in enumerate(vocabulary().read_text(encoding="utf-8").split("\n")[:-1])}
TEXTS = pytest.mark.parametrize("text", awkward_texts(), ids=lambda entry: entry.name)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tokens.TextTokenizer(wordpiece.ChineseClipWordPiece(VOCABULARY), context_length=52)


@pytest.fixture(scope="module")
def byte_vocabulary(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, int], list[str]]:
    """A short vocabulary of byte pairs, and the lines of its ``merges.txt``."""
    folder = write_short_clip_vocabulary(tmp_path_factory.mktemp("vocabulary"))
    ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    return ids, (folder / "merges.txt").read_text(encoding="utf-8").splitlines()


def assert_ids(tokenizer: Any, text: str, expected: list[int]) -> None:
    encoded = tokenizer.encode([text])
    assert encoded.input_ids[0, : len(expected)].tolist() == expected
    assert encoded.input_ids[0, len(expected) :].sum() == 0
    assert encoded.attention_mask[0].sum() == len(expected)


class TestIds:
    @TEXTS
    def test_chinese_clip_gives_the_ids_of_cn_clip(self, tokenizer: Any, text: SampleText) -> None:
        ids = text.token_ids["chinese_clip_wordpiece"]
        assert_ids(tokenizer, text.text, [101, *ids[:50], 102])
        assert tokenizer.encode([text.text]).truncated[0] == (len(ids) > 50)

    @TEXTS
    @pytest.mark.parametrize("lowercase", [True, False])
    def test_taiyi_gives_the_ids_of_transformers(self, text: SampleText, lowercase: bool) -> None:
        rules = wordpiece.BertWordPiece(VOCABULARY, lowercase=lowercase)
        theirs = BertTokenizer(vocab=VOCABULARY, do_lower_case=lowercase)
        expected = theirs(text.text, truncation=True, max_length=77, split_special_tokens=True)["input_ids"]
        assert_ids(tokens.TextTokenizer(rules, context_length=77), text.text, expected)

    def test_special_tokens_that_a_user_types_are_text(
        self, tokenizer: Any, byte_vocabulary: tuple[dict[str, int], list[str]]
    ) -> None:
        taiyi = wordpiece.BertWordPiece(VOCABULARY, lowercase=True)
        assert not {100, 101, 102, 103} & set(taiyi.token_ids(["[SEP][CLS][MASK][UNK]"], 52)[0])
        assert tokenizer.encode(["[SEP][CLS]"]).input_ids[0].tolist().count(102) == 1
        clip = byte_pairs.ClipBytePairs(*byte_vocabulary)
        assert clip.end not in clip.token_ids(["<|endoftext|> cat"], 52)[0]

    def test_byte_pairs_are_merged_in_order(self, byte_vocabulary: tuple[dict[str, int], list[str]]) -> None:
        """Merges apply in their order, and the first line and surplus lines of ``merges.txt`` change nothing.

        In some releases, the first line names another file, and lines follow after the last merge of the vocabulary.
        """
        ids, merges = byte_vocabulary
        expected = [[ids["cat</w>"], ids["do"], ids["g</w>"]]]
        for lines in (merges, merges[1:], ['"bpe_simple_vocab_16e6.txt#version: 0.2', *merges[1:], "no token</w>"]):
            assert byte_pairs.ClipBytePairs(ids, lines).token_ids(["Cat DOG"], 52) == expected

    def test_quotes_are_straightened_on_request(self) -> None:
        straight = wordpiece.ChineseClipWordPiece(VOCABULARY, straighten_quotes=True)
        assert straight.token_ids(["“猫”"], 52) == straight.token_ids(['"猫"'], 52)


class TestBounds:
    """The work for a hostile text is limited, and the limits do not change the text's tokens."""

    @pytest.mark.parametrize(
        "text",
        [
            "a\u0301\u0323" * 400,
            "a" + "\u0323\u0301\u0344\u0340\u302e" * 400,
            "\u1d165\u034f\u0301\u0316é" * 300 + "猫",
        ],
    )
    def test_sorted_runs_of_marks_have_the_same_normal_forms(self, text: str) -> None:
        ordered = bounds.marks_in_order(text)
        for form in ("NFC", "NFD"):
            assert unicodedata.normalize(form, ordered) == unicodedata.normalize(form, text)

    def test_normalization_is_given_runs_in_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given: list[str] = []
        original = unicodedata.normalize
        monkeypatch.setattr(unicodedata, "normalize", lambda form, text: given.append(text) or original(form, text))
        rules = wordpiece.ChineseClipWordPiece(VOCABULARY)
        rules.normalize("\u0301\u0323" * 1000)
        monkeypatch.undo()
        classes = [unicodedata.combining(character) for character in given[-1]]
        assert len(classes) == 2000
        assert classes == sorted(classes)

    @pytest.mark.parametrize("lowercase", [None, True])
    @pytest.mark.parametrize("piece", ["#", "。", "猫", "a#", "a 猫"])
    def test_words_without_spaces_are_cut_off_too(
        self, lowercase: bool | None, piece: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A text without spaces is cut as well, if each of its characters is a word.

        Without the cut, each character became a token, and a text of 256 KiB took 360 MiB of memory.
        """
        if lowercase is None:
            rules = wordpiece.ChineseClipWordPiece(VOCABULARY)
        else:
            rules = wordpiece.BertWordPiece(VOCABULARY, lowercase=lowercase)
        [cut] = rules.token_ids([piece * 1000], 52)
        monkeypatch.setattr(wordpiece, "first_words", lambda text, *_: text)
        [whole] = rules.token_ids([piece * 1000], 52)
        assert 52 <= len(cut) <= 104
        assert cut == whole[: len(cut)]

    @pytest.mark.parametrize("lowercase", [None, True])
    def test_words_that_would_be_cut_off_are_not_looked_up(
        self, lowercase: bool | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if lowercase is None:
            rules = wordpiece.ChineseClipWordPiece(VOCABULARY)
        else:
            rules = wordpiece.BertWordPiece(VOCABULARY, lowercase=lowercase)
        text = " ".join(["x" * 80 + "猫"] * 100 + ["y" * 199] * 1000)
        whole = tokens.TextTokenizer(rules, context_length=52).encode([text])
        ids = rules.token_ids([text], 51)[0]
        assert 51 <= len(ids) < 51 * 82
        monkeypatch.setattr(wordpiece, "first_words", lambda text, *_: text)
        unbounded = tokens.TextTokenizer(rules, context_length=52).encode([text])
        np.testing.assert_array_equal(whole.input_ids, unbounded.input_ids)
        assert whole.truncated.tolist() == unbounded.truncated.tolist() == [True]

    @pytest.mark.parametrize("line", ["\n", "\x12\n", " \t\r\n", "\x85\n"])
    def test_byte_pairs_mend_the_first_lines_of_a_long_text(
        self, byte_vocabulary: tuple[dict[str, int], list[str]], monkeypatch: pytest.MonkeyPatch, line: str
    ) -> None:
        given: list[str] = []
        monkeypatch.setattr(byte_pairs.ftfy, "fix_text", lambda text: given.append(text) or text)
        byte_pairs.ClipBytePairs(*byte_vocabulary).token_ids(["cat" + line * 100_000 + "dog"], 51)
        assert given[0].startswith("cat")
        assert given[0].count("\n") < 1_024

    def test_blank_lines_do_not_change_the_tokens(self, byte_vocabulary: tuple[dict[str, int], list[str]]) -> None:
        rules = byte_pairs.ClipBytePairs(*byte_vocabulary)
        [spread, dense] = rules.token_ids(["cat" + "\n \t\r\n" * 5_000 + "\x85dog", "cat\n\x85dog"], 51)
        assert spread == dense

    def test_byte_pairs_mend_the_beginning_of_a_long_text(
        self, byte_vocabulary: tuple[dict[str, int], list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given: list[str] = []
        monkeypatch.setattr(byte_pairs.ftfy, "fix_text", lambda text: given.append(text) or text)
        rules = byte_pairs.ClipBytePairs(*byte_vocabulary)
        encoded = tokens.TextTokenizer(rules, context_length=77).encode([" " * 30_000 + "ab" * 100_000])
        assert given == [" " * 30_000 + "ab" * 8_192]
        assert encoded.truncated.tolist() == [True]


class TestPadding:
    @pytest.mark.parametrize("characters", [0, 14, 50, 51, 999])
    def test_all_texts_get_one_length(self, tokenizer: Any, characters: int) -> None:
        """All texts are padded to one length, because Triton ends a batch at the first request of another shape."""
        encoded = tokenizer.encode(["猫", "猫" * characters])
        assert encoded.input_ids.shape == encoded.attention_mask.shape == (2, 52)
        assert encoded.input_ids.dtype == encoded.attention_mask.dtype == np.int64
        assert encoded.attention_mask.sum(axis=1).tolist() == [3, min(characters, 50) + 2]
        assert encoded.truncated.tolist() == [False, characters > 50]

    def test_no_texts_give_no_rows(self, tokenizer: Any) -> None:
        assert tokenizer.encode([]).input_ids.shape == (0, 52)

    def test_unmasked_texts_attend_to_all_their_padding(self) -> None:
        rules = wordpiece.BertWordPiece(VOCABULARY, lowercase=True)
        unmasked = tokens.TextTokenizer(rules, context_length=77, unmasked=True)
        encoded = unmasked.encode(["猫", "一只狗"])
        assert encoded.input_ids.shape == (2, 77)
        assert encoded.attention_mask.min() == 1
        assert encoded.input_ids[0, 3:].max() == 0


def test_rejects_an_unknown_kind(tmp_path: Path) -> None:
    settings = {"kind": "guess", "rules": {}, "context_length": 52, "unmasked": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="expected the kind .* or clip_bpe in .*, got 'guess'"):
        tokens.load_tokenizer(tmp_path)
