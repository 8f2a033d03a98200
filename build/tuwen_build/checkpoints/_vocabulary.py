"""Vocabularies in one canonical form, which does not depend on the kind of the file or on its line endings.

The fingerprint of an embedding space hashes this form. The form equals the published files byte for byte:
``vocab.txt`` and ``merges.txt`` with LF at the end of each line, the last one included; ``vocab.json`` without spaces.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from tuwen_build.checkpoints._folders import check_no_pointer
from tuwen_build.errors import CheckpointError
from tuwen_repository.samples import vocabulary as published_vocabulary

__all__ = ["as_json", "as_lines", "as_published", "vocabulary_lines"]


def vocabulary_lines(path: Path) -> list[str]:
    """Return the lines of ``vocab.txt`` or ``merges.txt``, with the white space that is part of a token.

    Raises:
        CheckpointError: the file is not UTF-8.
    """
    check_no_pointer(path)
    try:
        # Universal newlines, and no splitlines(): BERT's vocabulary has U+2028 as a token.
        return path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text: {error}") from error


def as_lines(lines: Iterable[str]) -> bytes:
    """Return lines as the content of ``vocab.txt`` or ``merges.txt``."""
    return "".join(f"{line}\n" for line in lines).encode()


def as_json(vocabulary: Mapping[str, int]) -> bytes:
    """Return tokens and their ids as the content of ``vocab.json``, in the order of the ids."""
    ordered = dict(sorted(vocabulary.items(), key=lambda entry: entry[1]))
    return json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode()


def as_published(tokens: list[str]) -> list[str]:
    """Return the tokens of ``tokenizer.json``, spelled as in the published ``vocab.txt`` if they are the same tokens.

    Two tokens of the published file hold white space, which the `tokenizers` library strips when it reads
    ``vocab.txt``. The server strips it too, so both spellings give the same ids and must give the same fingerprint.
    """
    published = vocabulary_lines(published_vocabulary())
    return published if tokens == [token.strip() for token in published] else tokens
