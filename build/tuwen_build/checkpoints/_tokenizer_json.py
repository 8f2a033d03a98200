"""The vocabulary in ``tokenizer.json``, the only file that transformers 5 saves for a tokenizer.

The file also describes how texts are split. It is rejected if the server's tokenizers split texts in another way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuwen_build.checkpoints._json import load_json
from tuwen_build.errors import CheckpointError

__all__ = ["read_byte_pairs", "read_wordpiece"]

_BERT_TOKENS = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
_CLIP_TOKENS = {"<|startoftext|>", "<|endoftext|>"}
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_BYTE_PAIRS: dict[str, tuple[Any, ...]] = {
    "type": ("BPE",),
    "dropout": (None,),
    "unk_token": ("<|endoftext|>",),
    "continuing_subword_prefix": ("", None),
    "end_of_word_suffix": ("</w>",),
    "fuse_unk": (False, None),
    "byte_fallback": (False, None),
    "ignore_merges": (False, None),
}
_CLIP_NORMALIZERS: tuple[dict[str, tuple[Any, ...]], ...] = (
    {"type": ("NFC",)},
    {"type": ("Replace",), "pattern": ({"Regex": r"\s+"},), "content": (" ",)},
    {"type": ("Lowercase",)},
)
_CLIP_PRE_TOKENIZERS: tuple[dict[str, tuple[Any, ...]], ...] = (
    {  # transformers 5 adds these special tokens; the server treats them as text
        "type": ("Split",),
        "pattern": ({"Regex": _CLIP_WORDS}, {"Regex": rf"<\|startoftext\|>|<\|endoftext\|>|{_CLIP_WORDS}"}),
        "behavior": ("Removed",),
        "invert": (True,),
    },
    {"type": ("ByteLevel",), "add_prefix_space": (False,)},
)


def read_wordpiece(path: Path, *, lowercase: bool, word_lengths: tuple[int, ...]) -> list[str]:
    """Return the tokens of a BERT tokenizer in the order of their ids.

    Args:
        path: the path of ``tokenizer.json``.
        lowercase: whether the server's tokenizer lower-cases and strips accents.
        word_lengths: the values of ``max_input_chars_per_word`` that the server's tokenizer implements.

    Raises:
        CheckpointError: the file describes another tokenizer. The message names the part that differs.
    """
    content = load_json(path)
    accents = (None, lowercase)  # null follows lowercase
    normalizer = {
        "type": ("BertNormalizer",),
        "clean_text": (True,),
        "handle_chinese_chars": (True,),
        "strip_accents": accents,
        "lowercase": (lowercase,),
    }
    model = {
        "type": ("WordPiece", None),  # old files leave it out
        "unk_token": ("[UNK]",),
        "continuing_subword_prefix": ("##",),
        "max_input_chars_per_word": word_lengths,
    }
    _expect(path, "normalizer", content.get("normalizer"), normalizer)
    _expect(path, "pre_tokenizer", content.get("pre_tokenizer"), {"type": ("BertPreTokenizer",)})
    _expect(path, "model", content.get("model"), model)
    return list(_vocabulary(path, content, _BERT_TOKENS))


def read_byte_pairs(path: Path) -> tuple[dict[str, int], list[str]]:
    """Return the vocabulary of a CLIP tokenizer, and its merges as lines of ``merges.txt``, in order of priority.

    Raises:
        CheckpointError: the file describes another tokenizer. The message names the part that differs.
    """
    content = load_json(path)
    _expect_sequence(path, content, "normalizer", "normalizers", _CLIP_NORMALIZERS)
    _expect_sequence(path, content, "pre_tokenizer", "pretokenizers", _CLIP_PRE_TOKENIZERS)
    model = content.get("model")
    _expect(path, "model", model, _BYTE_PAIRS)
    merges = []
    for merge in content["model"].get("merges") or ():
        pair = merge.split(" ") if isinstance(merge, str) else merge  # tokenizers before 0.20 join them
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise CheckpointError(f"{path}: model.merges holds {json.dumps(merge)}; expected two tokens")
        merges.append(" ".join(pair))
    return _vocabulary(path, content, _CLIP_TOKENS), merges


def _vocabulary(path: Path, content: Mapping[str, Any], special: set[str]) -> dict[str, int]:
    """Return the tokens and their ids, in the order of the ids."""
    vocabulary = content["model"].get("vocab")
    if not isinstance(vocabulary, dict) or not all(type(number) is int for number in vocabulary.values()):
        raise CheckpointError(f"{path}: expected an object of tokens and their ids in model.vocab")
    ordered = dict(sorted(vocabulary.items(), key=lambda entry: entry[1]))
    if list(ordered.values()) != list(range(len(ordered))):
        raise CheckpointError(f"{path}: expected the ids 0 to {len(ordered) - 1} in model.vocab, each id once")
    for token in content.get("added_tokens") or ():
        text, number = (token.get("content"), token.get("id")) if isinstance(token, dict) else (token, None)
        if text not in special or ordered.get(text) != number:
            raise CheckpointError(
                f"{path}: added_tokens holds {json.dumps(text, ensure_ascii=False)} with id {json.dumps(number)}; "
                f"supported are {', '.join(sorted(special))} with their ids in model.vocab"
            )
    return ordered


def _expect_sequence(
    path: Path, content: Mapping[str, Any], place: str, name: str, parts: tuple[dict[str, tuple[Any, ...]], ...]
) -> None:
    sequence = content.get(place)
    _expect(path, place, sequence, {"type": ("Sequence",)})
    got = content[place].get(name)
    if not isinstance(got, list) or len(got) != len(parts):
        kinds = ", ".join(part["type"][0] for part in parts)
        raise CheckpointError(f"{path}: {place}.{name} is {_shortened(got)}; expected the {len(parts)} parts {kinds}")
    for index, (part, expected) in enumerate(zip(got, parts, strict=True)):
        _expect(path, f"{place}.{name}[{index}]", part, expected)


def _expect(path: Path, place: str, got: Any, expected: Mapping[str, tuple[Any, ...]]) -> None:
    """Reject a part of the file that differs from the server's tokenizer."""
    if not isinstance(got, dict):
        raise CheckpointError(f"{path}: {place} is {_shortened(got)}; expected {expected['type'][0]}")
    for key, allowed in expected.items():
        value = got.get(key)
        if not any((type(value), value) == (type(choice), choice) for choice in allowed):
            supported = " or ".join(json.dumps(choice) for choice in allowed)
            raise CheckpointError(
                f"{path}: {place}.{key} is {_shortened(value)}, which the server's tokenizer does not implement; "
                f"supported: {supported}"
            )


def _shortened(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
