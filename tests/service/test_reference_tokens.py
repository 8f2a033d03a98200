"""The tokenizers give the token ids of cn_clip and open_clip for the sample texts and every Unicode character."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reference.characters import assigned_characters
from tests.support.artefacts import Artefacts
from tests.support.character_ids import differing_characters, kept_differing_characters
from tests.support.families import build
from tests.support.models import model_module
from tests.support.originals import CharacterIds, Original, Originals
from tests.support.rows import kept_source
from tests.support.small_rows import SMALL_ROWS
from tuwen_repository.samples import SampleText, awkward_texts

tokens = model_module("text_tokenization", "tokens")
byte_pairs = model_module("text_tokenization", "byte_pairs")

TEXTS = awkward_texts()


@pytest.fixture(scope="module")
def clip_repository(artefacts: Artefacts, originals: Originals) -> Path:
    """Return the repository of a small OpenAI CLIP model with the published vocabulary. Do not change its files."""
    return build(kept_source(SMALL_ROWS["openai/clip-vit-base-patch32"], artefacts, originals), artefacts)


@pytest.fixture(scope="module")
def clip_vocabulary(originals: Originals) -> tuple[dict[str, int], list[str]]:
    """Return the published vocabulary of OpenAI's CLIP: the ids by token, and the lines of ``merges.txt``."""
    folder = originals.clip_vocabulary()
    ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    return ids, (folder / "merges.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def clip_tokenizer(clip_vocabulary: tuple[dict[str, int], list[str]]) -> Any:
    return tokens.TextTokenizer(byte_pairs.ClipBytePairs(*clip_vocabulary), context_length=77)


@pytest.mark.parametrize(
    ("original", "kind"), [("cn_clip", "chinese_clip_wordpiece"), ("open_clip", "clip_bpe")], ids=lambda value: value
)
def test_the_ids_of_the_sample_texts_equal_those_of_the_original(
    original: Original, kind: str, originals: Originals
) -> None:
    """The token ids in ``samples/texts.json`` equal those of the original tokenizers.

    Every build and the tests of the tokenizers compare with the ids in this file.
    """
    ids = originals.token_ids(original, [text.text for text in TEXTS])
    for text, expected in zip(TEXTS, ids, strict=True):
        assert list(text.token_ids[kind]) == expected[:510], text.name


class TestBytePairs:
    @pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.name)
    def test_gives_the_ids_of_open_clip(self, clip_tokenizer: Any, text: SampleText) -> None:
        ids = text.token_ids["clip_bpe"]
        expected = [49406, *ids[:75], 49407]
        encoded = clip_tokenizer.encode([text.text])
        assert encoded.input_ids[0, : len(expected)].tolist() == expected
        assert encoded.input_ids[0, len(expected) :].sum() == 0
        assert encoded.attention_mask[0].sum() == len(expected)
        assert encoded.truncated[0] == (len(ids) > 75)

    def test_special_tokens_in_a_users_text_are_plain_text(self, clip_tokenizer: Any) -> None:
        assert clip_tokenizer.encode(["<|endoftext|> cat"]).input_ids[0].tolist().count(49407) == 1

    def test_reads_the_merges_of_any_release(self, clip_vocabulary: tuple[dict[str, int], list[str]]) -> None:
        """The tokenizer reads each published form of ``merges.txt``.

        Some releases have another first line, and more lines after the last merge that the vocabulary uses.
        """
        ids, merges = clip_vocabulary
        english = next(text for text in TEXTS if text.name == "english")
        for lines in (merges[1:], ['"bpe_simple_vocab_16e6.txt#version: 0.2', *merges[1:], "no token</w>"]):
            rules = byte_pairs.ClipBytePairs(ids, lines)
            assert rules.token_ids([english.text], 77) == [list(english.token_ids["clip_bpe"])]


class TestEveryCharacter:
    """The tokenizers give the ids of the originals for every assigned character.

    `tests/system/test_published_sizes.py` compares all code points.
    """

    def test_gives_the_ids_of_cn_clip(self, repository: Path, originals: Originals, artefacts: Artefacts) -> None:
        expected = originals.characters("cn_clip")
        assert expected.codes.tolist() == [ord(character) for character in assigned_characters()]
        assert kept_differing_characters(repository, expected, artefacts) == []

    @pytest.mark.skipif(unicodedata.unidata_version != "14.0.0", reason="`tokenizers` has the tables of Unicode 14")
    def test_gives_the_ids_of_open_clip_up_to_unicode_14(
        self, clip_repository: Path, originals: Originals, artefacts: Artefacts
    ) -> None:
        expected = originals.characters("open_clip")
        assert expected.codes.tolist() == [ord(character) for character in assigned_characters()]
        assert kept_differing_characters(clip_repository, expected, artefacts) == []

    def test_names_a_character_with_other_ids(self, repository: Path, originals: Originals) -> None:
        every = originals.characters("cn_clip")
        first = every.codes.tolist().index(ord("猫"))
        ends = np.cumsum(every.lengths, dtype=np.int64)
        codes, lengths = every.codes[first : first + 3], every.lengths[first : first + 3]
        ids = every.ids[ends[first - 1] : ends[first + 2]]
        assert differing_characters(repository, CharacterIds(codes, lengths, ids)) == []

        other_id = ids.copy()
        other_id[lengths[0] + 1] += 1
        assert differing_characters(repository, CharacterIds(codes, lengths, other_id)) == [chr(codes[1])]
        one_less = lengths - np.array([0, 0, 1], np.uint8)
        assert differing_characters(repository, CharacterIds(codes, one_less, ids[:-1])) == [chr(codes[2])]
