"""Tokenization rules of each kind, and transformers' own tokenizers to hold them to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import BertTokenizer, CLIPTokenizer

from tuwen_build.checkpoints._checkpoint import Tokenization
from tuwen_build.checkpoints._json import load_json
from tuwen_build.errors import CheckpointError

__all__ = ["chinese_clip_tokenization", "clip_tokenization", "reference_tokenizer", "taiyi_tokenization"]

_CHINESE_CLIP_CONTEXT = 52  # cn_clip/clip/utils.py: "all baseline models use 52 as the context length"
_TAIYI_CONTEXT = 77  # Fengshenbang-LM pads and cuts to OpenAI CLIP's 77 when it trains and evaluates
_START, _END = "<|startoftext|>", "<|endoftext|>"


def chinese_clip_tokenization(vocabulary: Path, vocabulary_size: int, positions: int) -> Tokenization:
    """WordPiece as in cn_clip."""
    _check_wordpiece(vocabulary, vocabulary_size)
    return Tokenization(
        kind="chinese_clip_wordpiece",
        files={"vocab.txt": vocabulary},
        vocabulary_size=vocabulary_size,
        default_context_length=_CHINESE_CLIP_CONTEXT,
        max_context_length=positions,
        settings={},
        text_rules=("reference", "evaluation"),
    )


def taiyi_tokenization(folder: Path, vocabulary_size: int, positions: int) -> Tokenization:
    """WordPiece as in transformers' `BertTokenizer`, which Taiyi's model cards use."""
    vocabulary = folder / "vocab.txt"
    _check_wordpiece(vocabulary, vocabulary_size)
    path = folder / "tokenizer_config.json"
    lowercase = load_json(path).get("do_lower_case", True) if path.is_file() else True
    return Tokenization(
        kind="bert_wordpiece",
        files={"vocab.txt": vocabulary},
        vocabulary_size=vocabulary_size,
        default_context_length=_TAIYI_CONTEXT,
        max_context_length=positions,
        settings={"lowercase": bool(lowercase)},
        text_rules=("reference", "unmasked"),
    )


def clip_tokenization(folder: Path, vocabulary_size: int, positions: int) -> Tokenization:
    """Byte-pair encoding as in OpenAI's own code."""
    files = {name: folder / name for name in ("vocab.json", "merges.txt")}
    for path in files.values():
        _check_present(path)
    vocabulary = load_json(files["vocab.json"])
    if len(vocabulary) != vocabulary_size:
        raise CheckpointError(
            f"{files['vocab.json']} has {len(vocabulary)} tokens, config.json says vocab_size {vocabulary_size}"
        )
    if missing := {_START, _END} - set(vocabulary):
        raise CheckpointError(f"{files['vocab.json']} lacks {', '.join(sorted(missing))}")
    return Tokenization(
        kind="clip_bpe",
        files=files,
        vocabulary_size=vocabulary_size,
        default_context_length=positions,
        max_context_length=positions,
        settings={},
        text_rules=("reference",),
    )


def reference_tokenizer(rules: Tokenization) -> Callable[[str, int], list[int]]:
    """transformers' tokenizer: a text and a context length to ids, truncated, without padding."""
    tokenizer_class: Any = CLIPTokenizer if rules.kind == "clip_bpe" else BertTokenizer
    tokenizer = tokenizer_class.from_pretrained(str(next(iter(rules.files.values())).parent))

    def tokenize(text: str, context_length: int) -> list[int]:
        # split_special_tokens: what a user types is text, even when it looks like a special token
        encoded = tokenizer(text, truncation=True, max_length=context_length, split_special_tokens=True)
        return list(encoded["input_ids"])

    return tokenize


def _check_wordpiece(path: Path, size: int) -> None:
    _check_present(path)
    tokens = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    if len(tokens) != size:
        raise CheckpointError(f"{path} has {len(tokens)} tokens, the weights and config.json have {size}")
    if missing := {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} - set(tokens):
        raise CheckpointError(f"{path} lacks {', '.join(sorted(missing))}")
    if tokens[0] != "[PAD]":
        raise CheckpointError(f"{path}: the first token must be [PAD]: the reference takes id 0 for padding")


def _check_present(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path.parent}: {path.name} is missing; every release has one, copy it here")
