"""The tokenization rules of each family, and the tokenizers of transformers with which the rules are compared."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import BertTokenizer, CLIPTokenizer

from tuwen_build.checkpoints._checkpoint import Tokenization
from tuwen_build.checkpoints._json import load_json
from tuwen_build.checkpoints._tokenizer_json import read_byte_pairs, read_wordpiece
from tuwen_build.checkpoints._vocabulary import as_json, as_lines, as_published, vocabulary_lines
from tuwen_build.errors import CheckpointError

__all__ = ["chinese_clip_tokenization", "clip_tokenization", "reference_tokenizer", "taiyi_tokenization"]

_CHINESE_CLIP_CONTEXT = 52  # cn_clip/clip/utils.py: "all baseline models use 52 as the context length"
_TAIYI_CONTEXT = 77  # Fengshenbang-LM pads and cuts to OpenAI CLIP's 77 when it trains and evaluates
_TOKENIZER_JSON = "tokenizer.json"
_START, _END = "<|startoftext|>", "<|endoftext|>"


def chinese_clip_tokenization(vocabulary: Path, vocabulary_size: int, positions: int) -> Tokenization:
    """Return the WordPiece rules of cn_clip.

    Args:
        vocabulary: the path of ``vocab.txt``. If this file does not exist, the ``tokenizer.json`` beside it is read.
        vocabulary_size: the number of token embeddings in the weights.
        positions: the number of tokens that the position embeddings allow.

    Raises:
        CheckpointError: the vocabulary is missing, or belongs to another tokenizer.
    """
    # transformers' own tokenizer says 100; the server follows cn_clip, which takes words of 200 characters.
    files, tokens = _wordpiece(vocabulary, vocabulary_size, lowercase=True, word_lengths=(100, 200))
    return Tokenization(
        kind="chinese_clip_wordpiece",
        files=files,
        assets={"vocab.txt": as_lines(tokens)},
        vocabulary_size=vocabulary_size,
        default_context_length=_CHINESE_CLIP_CONTEXT,
        max_context_length=positions,
        settings={},
        text_rules=("reference", "evaluation"),
    )


def taiyi_tokenization(folder: Path, vocabulary_size: int, positions: int) -> Tokenization:
    """Return the WordPiece rules of transformers' `BertTokenizer`, which Taiyi's model cards use.

    Raises:
        CheckpointError: the vocabulary is missing or belongs to another tokenizer, or ``tokenizer_config.json`` asks
            for rules that the server does not implement.
    """
    lowercase = _reads_lowercase(folder / "tokenizer_config.json")
    files, tokens = _wordpiece(folder / "vocab.txt", vocabulary_size, lowercase=lowercase, word_lengths=(100,))
    return Tokenization(
        kind="bert_wordpiece",
        files=files,
        assets={"vocab.txt": as_lines(tokens)},
        vocabulary_size=vocabulary_size,
        default_context_length=_TAIYI_CONTEXT,
        max_context_length=positions,
        settings={"lowercase": lowercase},
        text_rules=("reference", "unmasked"),
    )


def clip_tokenization(folder: Path, vocabulary_size: int, positions: int) -> Tokenization:
    """Return the byte-pair encoding rules of OpenAI's own code.

    Raises:
        CheckpointError: the vocabulary is missing, or belongs to another tokenizer.
    """
    files = {name: folder / name for name in ("vocab.json", "merges.txt")}
    saved = folder / _TOKENIZER_JSON
    if saved.is_file() and not all(path.is_file() for path in files.values()):
        files = {_TOKENIZER_JSON: saved}
        vocabulary, merges = read_byte_pairs(saved)
        assets = {"vocab.json": as_json(vocabulary), "merges.txt": as_lines(["#version: 0.2", *merges])}
    else:
        for path in files.values():
            _check_present(path)
            _check_no_mark(path)
        vocabulary = load_json(files["vocab.json"])
        assets = {
            "vocab.json": files["vocab.json"].read_bytes(),
            "merges.txt": as_lines(vocabulary_lines(files["merges.txt"])),
        }
    origin = next(iter(files.values()))
    if len(vocabulary) != vocabulary_size:
        raise CheckpointError(
            f"{origin}: expected {vocabulary_size} tokens, which is vocab_size in config.json; got {len(vocabulary)}"
        )
    if missing := {_START, _END} - set(vocabulary):
        raise CheckpointError(f"{origin} lacks {', '.join(sorted(missing))}")
    return Tokenization(
        kind="clip_bpe",
        files=files,
        assets=assets,
        vocabulary_size=vocabulary_size,
        default_context_length=positions,
        max_context_length=positions,
        settings={},
        text_rules=("reference",),
    )


def reference_tokenizer(rules: Tokenization) -> Callable[[str, int], list[int]]:
    """Return a function that tokenizes with transformers: it truncates a text to a context length, without padding."""
    tokenizer_class: Any = CLIPTokenizer if rules.kind == "clip_bpe" else BertTokenizer
    tokenizer = tokenizer_class.from_pretrained(str(next(iter(rules.files.values())).parent))

    def tokenize(text: str, context_length: int) -> list[int]:
        # split_special_tokens: text from users is text, even if it looks like a special token
        encoded = tokenizer(text, truncation=True, max_length=context_length, split_special_tokens=True)
        return list(encoded["input_ids"])

    return tokenize


def _wordpiece(
    path: Path, size: int, *, lowercase: bool, word_lengths: tuple[int, ...]
) -> tuple[dict[str, Path], list[str]]:
    """Return the vocabulary file as a mapping from name to path, and the tokens in the order of their ids."""
    saved = path.with_name(_TOKENIZER_JSON)
    if not path.is_file() and saved.is_file():
        path, tokens = saved, as_published(read_wordpiece(saved, lowercase=lowercase, word_lengths=word_lengths))
    else:
        _check_present(path)
        tokens = vocabulary_lines(path)
    if len(tokens) != size:
        raise CheckpointError(
            f"{path}: expected {size} tokens, as in the weights and in config.json; got {len(tokens)}"
        )
    if missing := {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} - set(tokens):
        raise CheckpointError(f"{path} lacks {', '.join(sorted(missing))}")
    if tokens[0] != "[PAD]":
        raise CheckpointError(f"{path}: expected [PAD] as the first token, because the reference pads with id 0")
    return {path.name: path}, tokens


def _reads_lowercase(path: Path) -> bool:
    """Return ``do_lower_case`` of a ``tokenizer_config.json``, and reject rules that the server does not implement."""
    settings = load_json(path) if path.is_file() else {}
    lowercase = bool(settings.get("do_lower_case", True))
    supported = {"tokenize_chinese_chars": (True,), "strip_accents": (None, lowercase)}
    for key, allowed in supported.items():
        if settings.get(key, allowed[0]) not in allowed:
            choices = " or ".join(map(json.dumps, allowed))
            raise CheckpointError(f"{path} says {key} {json.dumps(settings[key])}; supported: {choices}")
    return lowercase


def _check_no_mark(path: Path) -> None:
    """Refuse a file that begins with a byte order mark, because transformers reads the mark as part of a token."""
    with path.open("rb") as file:
        if file.read(len(BOM_UTF8)) == BOM_UTF8:
            raise CheckpointError(
                f"{path} begins with a byte order mark, which transformers takes for text; save the file as UTF-8 "
                "without the mark"
            )


def _check_present(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(
            f"{path.parent}: {path.name} is missing, and so is {_TOKENIZER_JSON}; "
            f"copy {path.name} from the published model into this folder"
        )
