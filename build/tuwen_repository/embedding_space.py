"""The embedding space of a repository: everything that influences its vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields

from tuwen.pixels import PixelRules

__all__ = ["EmbeddingSpace"]

_ALWAYS_HASHED = ("resize", "image_rules", "jpeg_decoding")  # have defaults, and are part of every fingerprint


@dataclass(frozen=True, kw_only=True)
class EmbeddingSpace(PixelRules):
    """The rules that an embedding depends on, in addition to the weights and the vocabulary.

    The fingerprint of an embedding space is a hash of these rules, the weights and the vocabulary.

    Attributes:
        precision: the arithmetic of the encoders: ``fp32``, ``bf16``, ``fp16`` or ``int8``.
        context_length: the maximum number of tokens per text, special tokens included.
        text_rules: the rules of the tokenization: ``reference``, ``evaluation`` or ``unmasked``.
        tokenizer: the kind of the tokenizer and its settings.
        vision_arithmetic, text_arithmetic: the attention heads, activation functions and epsilons of each tower.
    """

    precision: str
    context_length: int
    text_rules: str
    tokenizer: Sequence[object]
    vision_arithmetic: Sequence[Mapping[str, object]]
    text_arithmetic: Sequence[Mapping[str, object]]

    def rules(self) -> dict[str, object]:
        """Return the rules that are part of the fingerprint, by name, as values for JSON.

        A rule that a later version adds is left out while it has its default. So the fingerprints of earlier models
        stay the same.
        """
        defaults = {field.name: field.default for field in fields(self) if field.name not in _ALWAYS_HASHED}
        return {name: value for name, value in asdict(self).items() if defaults.get(name, MISSING) != value}
