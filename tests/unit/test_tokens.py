"""The tokenizer core: cn_clip's ids, buckets, truncation."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tuwen_build.samples import SampleText, awkward_texts, vocabulary

sys.path.insert(0, str(Path(__file__).parents[2] / "model_repository" / "text_tokenization" / "1"))
from tokens import BertTokenizer, LengthBuckets

VOCABULARY = {token: index for index, token in enumerate(vocabulary().read_text(encoding="utf-8").split("\n")[:-1])}


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizer:
    return BertTokenizer(VOCABULARY, context_length=52, length_buckets=(16, 32, 52))


@pytest.mark.parametrize("text", awkward_texts()[1], ids=lambda entry: entry.name)
def test_ids_are_those_of_cn_clip(tokenizer: BertTokenizer, text: SampleText) -> None:
    expected = [101, *text.token_ids[:50], 102]
    tokens = tokenizer.encode([text.text])
    assert tokens.input_ids[0, : len(expected)].tolist() == expected
    assert tokens.input_ids[0, len(expected) :].sum() == 0
    assert tokens.attention_mask[0].sum() == len(expected)
    assert tokens.truncated[0] == (len(text.token_ids) > 50)


@pytest.mark.parametrize(("characters", "bucket"), [(0, 16), (14, 16), (15, 32), (30, 32), (31, 52), (999, 52)])
def test_a_batch_goes_to_the_smallest_bucket_that_holds_it(
    tokenizer: BertTokenizer, characters: int, bucket: int
) -> None:
    tokens = tokenizer.encode(["猫", "猫" * characters])
    assert tokens.input_ids.shape == tokens.attention_mask.shape == (2, bucket)
    assert tokens.input_ids.dtype == tokens.attention_mask.dtype == np.int64
    assert tokens.truncated.tolist() == [False, characters > 50]


def test_no_texts_are_no_rows(tokenizer: BertTokenizer) -> None:
    assert tokenizer.encode([]).input_ids.shape == (0, 16)


def test_texts_that_arrive_together_are_padded_alike() -> None:
    """Triton ends a batch at the first request of another shape."""
    buckets = LengthBuckets((16, 32, 52), window=0.02)
    assert buckets.choose(10, now=1.000) == 16
    assert buckets.choose(30, now=1.001) == 32
    assert buckets.choose(10, now=1.002) == 32
    assert buckets.choose(10, now=1.020) == 32
    assert buckets.choose(10, now=1.040) == 16
    assert buckets.choose(10) == 16


def test_quotes_are_straightened_on_request() -> None:
    straight = BertTokenizer(VOCABULARY, context_length=52, length_buckets=(52,), straighten_quotes=True)
    assert straight.encode(["“猫”"]).input_ids.tolist() == straight.encode(['"猫"']).input_ids.tolist()


@pytest.mark.parametrize("buckets", [(16, 32), (32, 16, 52), (16, 16, 52)])
def test_buckets_must_ascend_to_the_context_length(buckets: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must ascend to the context length 52"):
        BertTokenizer(VOCABULARY, context_length=52, length_buckets=buckets)
