"""What the vectors of a server are: read from the server, so that vectors of two spaces are never compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from tuwen._errors import InferenceError

__all__ = ["ModelCard"]


@dataclass(frozen=True)
class ModelCard:
    """The model behind a server, as ``tuwen build`` wrote it into the repository.

    Attributes:
        family: ``chinese-clip``, ``openai-clip`` or ``taiyi-clip``.
        checkpoint: the hub id, folder or file that it was built from.
        fingerprint: the name of the embedding space: only vectors with the same one may be compared.
        embedding_dimension: D, the length of a vector.
        image_size: the side of the square that images are resized or cropped to, in pixels.
        resize: ``squash`` to that square, or ``crop`` the centre once the shortest edge fits.
        image_rules: ``reference``: images are seen as by the model's own code; ``display``: as by a viewer.
        jpeg_decoding: ``full``, or ``scaled``: large JPEGs are decoded at a part of their resolution.
        context_length: the most tokens of a text, special tokens included; longer ones are cut.
        logit_scale: what a cosine is multiplied with to become a logit.
        precision: of the encoders' arithmetic (``fp32``, ``bf16``, ``fp16`` or ``int8``); vectors are float32.
        max_batch_size: the most items of one request; the SDK splits larger calls.
    """

    family: str
    checkpoint: str
    fingerprint: str
    embedding_dimension: int
    image_size: int
    resize: str
    image_rules: str
    jpeg_decoding: str
    context_length: int
    logit_scale: float
    precision: str
    max_batch_size: int

    def to_parameters(self) -> dict[str, str]:
        """The card as the ``parameters`` of an ensemble's config; the batch size has a field of its own there."""
        return {name: str(value) for name, value in asdict(self).items() if name != "max_batch_size"}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str], max_batch_size: int) -> ModelCard:
        """Read the card from the ``parameters`` of an ensemble's config.

        Raises:
            InferenceError: the repository carries no card.
        """
        convert = {"str": str, "int": int, "float": float}
        values: dict[str, str | int | float] = {"max_batch_size": max_batch_size}
        try:
            for field in fields(cls):
                if field.name not in values:
                    values[field.name] = convert[str(field.type)](parameters[field.name])
        except (KeyError, ValueError) as error:
            raise InferenceError(
                f"the server's model card is missing or broken ({error}); was its repository made by `tuwen build`?"
            ) from error
        return cls(**values)  # type: ignore[arg-type]  # converted by each field's own type above
