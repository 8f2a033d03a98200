"""What the vectors of a server are: read from the server, so that vectors of two spaces are never compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from tuwen._errors import InferenceError
from tuwen.pixels import ImageLimits, PixelRules

__all__ = ["EmbeddingSpace", "ModelCard"]


@dataclass(frozen=True, kw_only=True)
class EmbeddingSpace(PixelRules):
    """The rules that an embedding depends on, beside the weights and the vocabulary.

    The fingerprint of an embedding space is a hash of these rules, the weights and the vocabulary.

    Attributes:
        precision: the arithmetic of the encoders: ``fp32``, ``bf16``, ``fp16`` or ``int8``.
        context_length: the maximum number of tokens per text, special tokens included.
        text_rules: ``reference``, ``evaluation`` or ``unmasked``; see ``BuildOptions`` in ``tuwen_build``.
        tokenizer: the kind of the tokenizer and its settings.
        vision_arithmetic, text_arithmetic: the numbers of heads, activations and epsilons of the two towers.
    """

    precision: str
    context_length: int
    text_rules: str
    tokenizer: Sequence[object]
    vision_arithmetic: Sequence[Mapping[str, object]]
    text_arithmetic: Sequence[Mapping[str, object]]

    def rules(self) -> dict[str, object]:
        """Return every rule by name, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ModelCard(PixelRules):
    """The model behind a server, as ``tuwen build`` wrote it into the repository, with the rules for its images.

    Attributes:
        family: ``chinese-clip``, ``openai-clip`` or ``taiyi-clip``.
        checkpoint: the hub id, folder or file that it was built from.
        fingerprint: the name of the embedding space: only vectors with the same one may be compared.
        embedding_dimension: D, the length of a vector.
        context_length: the maximum number of tokens per text, special tokens included; longer texts are cut.
        logit_scale: what a cosine is multiplied with to become a logit.
        precision: of the encoders' arithmetic (``fp32``, ``bf16``, ``fp16`` or ``int8``); vectors are float32.
        max_batch_size: the maximum number of items per request; the SDK splits larger calls.
        max_image_bytes: the maximum size of an encoded image. The SDK refuses a larger file without reading it.
    """

    family: str
    checkpoint: str
    fingerprint: str
    embedding_dimension: int
    context_length: int
    logit_scale: float
    precision: str
    max_batch_size: int
    max_image_bytes: int = ImageLimits.max_bytes

    def to_parameters(self) -> dict[str, str]:
        """Return the card as the ``parameters`` of an ensemble's config.

        The limits are not among them: the batch size has a field of its own in the config, and the size of an image is
        a parameter of ``image_preprocessing``.
        """
        limits = ("max_batch_size", "max_image_bytes")
        return {name: str(value) for name, value in asdict(self).items() if name not in limits}

    @classmethod
    def from_parameters(
        cls, parameters: Mapping[str, str], max_batch_size: int, max_image_bytes: int = ImageLimits.max_bytes
    ) -> ModelCard:
        """Read the card from the ``parameters`` of an ensemble's config.

        Raises:
            InferenceError: the repository carries no card.
        """
        convert = {"str": str, "int": int, "float": float}
        values: dict[str, str | int | float] = {
            "max_batch_size": max_batch_size,
            "max_image_bytes": max_image_bytes,
        }
        try:
            for field in fields(cls):
                if field.name not in values:
                    values[field.name] = convert[str(field.type)](parameters[field.name])
        except (KeyError, ValueError) as error:
            raise InferenceError(
                f"the server's model card is missing or broken ({error}); was its repository made by `tuwen build`?"
            ) from error
        return cls(**values)  # type: ignore[arg-type]  # converted by each field's own type above
