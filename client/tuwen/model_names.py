"""The names of a repository's Triton models, which begin with the repository's name from `tuwen build --name`.

A server can serve several repositories if each has a name: ``b16_text_embedding`` belongs to the repository ``b16``.
A repository without a name has the bare names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tuwen._errors import InvalidArgumentError

__all__ = ["ENSEMBLES", "STEPS", "check_name", "full_name", "name_and_model", "names_in"]

STEPS: dict[str, tuple[str, ...]] = {
    "image_embedding": ("image_preprocessing", "vision_encoder"),
    "pixel_embedding": ("vision_encoder",),
    "text_embedding": ("text_tokenization", "text_encoder"),
}
"""The models that a request to each ensemble passes through, by the ensemble. Names lack the repository's name."""

ENSEMBLES = tuple(STEPS)
"""The ensembles, which are the models that clients call. Names lack the repository's name."""

_MODELS = tuple(dict.fromkeys([*STEPS, *(model for models in STEPS.values() for model in models)]))
# A name is a DNS label, because folders, metric labels and Kubernetes objects contain it. A DNS label has no
# underscore, so the first underscore of `b16_text_embedding` ends the name.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def check_name(name: str) -> None:
    """Check the name of a repository; the empty text stands for a repository without a name.

    Raises:
        InvalidArgumentError: the name is not allowed.
    """
    if name and not _NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"invalid model name {name!r}: use up to 63 lower-case letters, digits and dashes, with a letter or digit "
            "at both ends, such as b16"
        )


def full_name(name: str, model: str) -> str:
    """Return the full name of a Triton model, such as ``b16_text_embedding``.

    Args:
        name: the name of the repository; empty: the repository has no name.
        model: the bare name of the model, such as ``text_embedding``.
    """
    return f"{name}_{model}" if name else model


def name_and_model(found: str) -> tuple[str, str] | None:
    """Return the name of the repository and the bare name of the model; None if tuwen did not build the model.

    Args:
        found: the full name of a Triton model, such as ``b16_text_embedding``.
    """
    name, separator, _ = found.partition("_")
    if found in _MODELS:
        return "", found
    model = found[len(name) + 1 :]
    return (name, model) if separator and model in _MODELS and _NAME.fullmatch(name) else None


def names_in(models: Iterable[str]) -> list[str]:
    """Return the sorted names of the repositories that Triton models belong to.

    Args:
        models: the full names of the models. A repository counts if its ensemble for texts is among the models.
    """
    split = [found for found in map(name_and_model, models) if found is not None]
    return sorted(name for name, model in split if model == "text_embedding")
