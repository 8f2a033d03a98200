"""The comparison of a repository's tokenizer with an original implementation, on every character."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from tests.reference.characters import in_a_text
from tests.support.artefacts import Artefacts
from tests.support.originals import CharacterIds, content_hash
from tuwen_build.verification.template_modules import staged_module

__all__ = ["differing_characters", "kept_differing_characters"]

_CHUNK = 20_000


def differing_characters(repository: Path, expected: CharacterIds) -> list[str]:
    """Return the characters for which the repository's tokenizer gives other ids than the original.

    Each character is compared in a short text of its own, `tests.reference.characters.in_a_text`.
    """
    folder = repository / "text_tokenization" / "1"
    with staged_module(folder, "tokens") as module:
        tokenizer = module.load_tokenizer(folder)
    width = int(expected.lengths.max())
    ends = np.cumsum(expected.lengths, dtype=np.int64)
    different: list[str] = []
    for start in range(0, len(expected.codes), _CHUNK):
        codes, lengths = expected.codes[start : start + _CHUNK], expected.lengths[start : start + _CHUNK]
        first = ends[start - 1] if start else 0
        ids = np.zeros((len(codes), width), np.int64)
        ids[np.arange(width) < lengths[:, None]] = expected.ids[first : ends[start + len(codes) - 1]]
        got = tokenizer.encode([in_a_text(chr(code)) for code in codes.tolist()])
        other = (got.input_ids[:, :width] != ids).any(axis=1) | (got.attention_mask.sum(axis=1) != lengths)
        different += [chr(code) for code in codes[other].tolist()]
    return different


def kept_differing_characters(repository: Path, expected: CharacterIds, artefacts: Artefacts) -> list[str]:
    """Return the result of `differing_characters`, from the cache if the same comparison was made before.

    The key of the result holds the tokenizer's folder with all its code, and the versions of its libraries.
    """
    compared = hashlib.sha256()
    for array in (expected.codes, expected.lengths, expected.ids):
        compared.update(array.tobytes())
    folder = artefacts.get(
        "differing-characters",
        lambda place: (place / "characters.json").write_text(
            json.dumps(differing_characters(repository, expected)), encoding="utf-8"
        ),
        modules=("tests.support.character_ids",),
        options={"files": content_hash(repository / "text_tokenization"), "expected": compared.hexdigest()},
    )
    return list(json.loads((folder / "characters.json").read_text(encoding="utf-8")))
