"""The files of a model repository, written from a checkpoint and not yet verified.

`tuwen_build.repository` verifies the files and moves them to the output. A caller that needs only a part of a build,
such as the fingerprint of a checkpoint, calls the function of that part.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from tuwen import ModelCard, pixels
from tuwen.model_names import full_name
from tuwen.pixels import PixelRules
from tuwen_build.checkpoints import Checkpoint
from tuwen_build.errors import BuildError
from tuwen_build.export.configs import WARMUP_FILE, needs_full_warmup, render_config, templates
from tuwen_build.export.encoders import TextEncoder, VisionEncoder, text_encoder, vision_encoder
from tuwen_build.export.fingerprint import arithmetic, fingerprint
from tuwen_build.export.torchscript import export
from tuwen_build.options import BuildOptions
from tuwen_repository import container_limits
from tuwen_repository.configs import config_path, write_config
from tuwen_repository.embedding_space import EmbeddingSpace

__all__ = [
    "assemble",
    "check_options",
    "context_length",
    "embedding_space",
    "export_text",
    "export_vision",
    "model_card",
    "name_models",
    "pixel_rules",
    "sdk_modules",
    "write_python_models",
]

_PYTHON_MODELS = ("image_preprocessing", "text_tokenization")


def assemble(
    folder: Path, checkpoint: Checkpoint, options: BuildOptions, *, progress: Callable[[str], None] = lambda _: None
) -> ModelCard:
    """Write all files of a repository except its manifest, and return its model card.

    Args:
        folder: an empty folder.
        checkpoint: the checkpoint to build.
        options: the choices of the build.
        progress: a function that is called with the name of each step when the step begins.

    Raises:
        BuildError: the checkpoint does not allow the options, or an encoder cannot be exported.
    """
    check_options(checkpoint, options)
    for template in templates().glob("*/config.pbtxt"):
        # Triton wants a version folder in an ensemble too, and an empty one does not survive every copy.
        version = folder / template.parent.name / "1"
        version.mkdir(parents=True)
        (version / ".keep").touch()
    write_python_models(folder, checkpoint, options)

    progress("exporting the vision encoder")
    vision = vision_encoder(checkpoint, options.encoder_precision)
    export_vision(folder, vision, checkpoint.preprocessing.image_size)
    progress("exporting the text encoder")
    text = text_encoder(checkpoint, options.encoder_precision)
    export_text(folder, text, context_length(checkpoint, options))

    progress("naming the embedding space")
    card = model_card(checkpoint, options, vision, text)
    for template in sorted(templates().glob("*/config.pbtxt")):
        write_config(render_config(template, card), config_path(folder, template.parent.name))
    if needs_full_warmup(card):
        warmup = folder / "text_encoder" / "warmup"
        warmup.mkdir()
        np.ones(card.context_length, dtype="<i8").tofile(warmup / WARMUP_FILE)
    return card


def name_models(folder: Path, name: str) -> None:
    """Rename the models' folders in a verified repository, so that each folder has the name in its config."""
    for template in templates().glob("*/config.pbtxt"):
        model = template.parent.name
        (folder / model).rename(folder / full_name(name, model))


def check_options(checkpoint: Checkpoint, options: BuildOptions) -> None:
    """Check that a checkpoint allows the options of a build.

    Raises:
        BuildError: an option is not allowed. The message lists what the checkpoint allows.
    """
    context_length(checkpoint, options)
    known = checkpoint.tokenization.text_rules
    if options.text_rules not in known:
        raise BuildError(f"text_rules: expected {' or '.join(known)} for {checkpoint.family}, got {options.text_rules}")


def context_length(checkpoint: Checkpoint, options: BuildOptions) -> int:
    """Return the maximum number of tokens per text: the one in the options, or the default of the family.

    Raises:
        BuildError: the number exceeds the checkpoint's number of position embeddings.
    """
    rules = checkpoint.tokenization
    length = options.context_length or rules.default_context_length
    if length > rules.max_context_length:
        raise BuildError(
            f"context_length: expected at most {rules.max_context_length}, because the checkpoint has no more position "
            f"embeddings; got {length}"
        )
    return length


def model_card(checkpoint: Checkpoint, options: BuildOptions, vision: VisionEncoder, text: TextEncoder) -> ModelCard:
    """Return the card that a repository of this checkpoint carries, with the fingerprint of its embedding space.

    Args:
        checkpoint: the checkpoint to build.
        options: the choices of the build.
        vision: the vision encoder of the checkpoint in the precision of the options.
        text: the text encoder of the checkpoint in the precision of the options.
    """
    space = embedding_space(checkpoint, options)
    vocabulary = checkpoint.tokenization.assets.values()
    return ModelCard(
        **space.pixel_rules(),
        family=checkpoint.family,
        checkpoint=checkpoint.origin.source,
        fingerprint=fingerprint({"vision": vision, "text": text}, space.rules(), vocabulary),
        embedding_dimension=checkpoint.embedding_dimension,
        context_length=space.context_length,
        logit_scale=checkpoint.logit_scale,
        precision=space.precision,
        max_batch_size=options.max_batch_size,
        name=options.name,
    )


def embedding_space(checkpoint: Checkpoint, options: BuildOptions) -> EmbeddingSpace:
    """Return the rules of the embedding space that a checkpoint and the options of a build define."""
    tokenization = checkpoint.tokenization
    return EmbeddingSpace(
        **vars(pixel_rules(checkpoint, options)),
        precision=options.encoder_precision,
        context_length=context_length(checkpoint, options),
        text_rules=options.text_rules,
        tokenizer=[tokenization.kind, dict(tokenization.settings)],
        vision_arithmetic=arithmetic(checkpoint.vision),
        text_arithmetic=arithmetic(checkpoint.text),
    )


def pixel_rules(checkpoint: Checkpoint, options: BuildOptions) -> PixelRules:
    """Return the rules for images. Options of the build take precedence over the checkpoint's rules."""
    chosen = {**vars(checkpoint.preprocessing), **vars(options)}
    return PixelRules(**{field.name: chosen[field.name] for field in fields(PixelRules)})


def export_vision(folder: Path, encoder: torch.nn.Module, side: int) -> None:
    """Export a vision encoder into a repository. The encoder takes images of `side` by `side` pixels."""
    export(encoder, (torch.zeros(2, 3, side, side, dtype=torch.uint8),), _model_file(folder, "vision_encoder"))


def export_text(folder: Path, encoder: torch.nn.Module, context_length: int) -> None:
    """Export a text encoder into a repository."""
    ids = torch.ones(2, min(16, context_length), dtype=torch.int64)
    export(encoder, (ids, ids), _model_file(folder, "text_encoder"))


def sdk_modules(model: str) -> list[Path]:
    """Return the files of the SDK's modules that a Python model imports. Client and server then run the same code."""
    sdk = Path(pixels.__file__).parent
    found = [sdk / "failures.py"]
    if model == "image_preprocessing":
        found += [sdk / "pixels.py", sdk / "_structure.py", Path(container_limits.__file__)]
    return found


def write_python_models(folder: Path, checkpoint: Checkpoint, options: BuildOptions) -> None:
    """Write the code of the Python models into a repository, and the settings and vocabulary that the code reads."""
    for model in _PYTHON_MODELS:
        version = folder / model / "1"
        version.mkdir(parents=True, exist_ok=True)
        for path in (*templates().glob(f"{model}/1/*.py"), *templates().glob("shared/*.py"), *sdk_modules(model)):
            shutil.copy(path, version)
    images, texts = (folder / model / "1" for model in _PYTHON_MODELS)
    rules = vars(pixel_rules(checkpoint, options))
    (images / "preprocessing.json").write_text(json.dumps(rules, indent=2), encoding="utf-8")
    (texts / "tokenizer.json").write_text(
        json.dumps(_tokenizer_settings(checkpoint, options), indent=2), encoding="utf-8"
    )
    for name, content in checkpoint.tokenization.assets.items():
        (texts / name).write_bytes(content)


def _tokenizer_settings(checkpoint: Checkpoint, options: BuildOptions) -> dict[str, object]:
    rules = dict(checkpoint.tokenization.settings)
    if options.text_rules == "evaluation":
        rules["straighten_quotes"] = True
    return {
        "kind": checkpoint.tokenization.kind,
        "rules": rules,
        "context_length": context_length(checkpoint, options),
        "unmasked": options.text_rules == "unmasked",
    }


def _model_file(folder: Path, model: str) -> Path:
    return folder / model / "1" / "model.pt"
