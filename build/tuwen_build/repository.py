"""A checkpoint becomes a verified Triton model repository, or nothing at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from tuwen import ModelCard
from tuwen_build.checkpoints import Checkpoint, ReadOptions, open_checkpoint
from tuwen_build.configs import config_path, write_config
from tuwen_build.encoders import text_encoder, vision_encoder
from tuwen_build.errors import BuildError
from tuwen_build.export import export
from tuwen_build.fingerprint import fingerprint
from tuwen_build.hashing import file_hashes, sha256_of
from tuwen_build.manifest import MANIFEST, Manifest, library_versions
from tuwen_build.options import BuildOptions
from tuwen_build.outputs import OutputFolder
from tuwen_build.render import render_config, templates
from tuwen_build.verify import verify_images, verify_texts

__all__ = ["BuildOptions", "ReadOptions", "build_repository"]

_PYTHON_MODELS = ("image_preprocessing", "text_tokenization")


def build_repository(
    source: str,
    output: Path,
    options: BuildOptions | None = None,
    *,
    read_options: ReadOptions | None = None,
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Build a Triton model repository from a checkpoint and prove it equal to the reference.

    Args:
        source: a checkpoint folder or file, or a hub id.
        output: the folder to create; it appears complete or not at all.
        options: precision, batch size and so on.
        read_options: what the checkpoint's files do not tell.
        force: replace an earlier build in `output`.
        progress: called with the name of each step as it begins.

    Raises:
        BuildError: one of its kinds in `tuwen_build.errors`; `output` is as it was.
    """
    options = options or BuildOptions()
    with OutputFolder(output, MANIFEST, force).staged() as staged:
        progress("reading the checkpoint")
        checkpoint = open_checkpoint(source, read_options)
        context_length = _context_length(checkpoint, options)
        _check_text_rules(checkpoint, options)
        _write_assets(staged, checkpoint, options, context_length)

        progress("exporting the vision encoder")
        vision = vision_encoder(checkpoint, options.precision)
        side = checkpoint.preprocessing.image_size
        export(vision, (torch.zeros(2, 3, side, side, dtype=torch.uint8),), _model_file(staged, "vision_encoder"))
        progress("exporting the text encoder")
        text = text_encoder(checkpoint, options.precision)
        ids = torch.ones(2, min(16, context_length), dtype=torch.int64)
        export(text, (ids, ids), _model_file(staged, "text_encoder"))

        progress("naming the embedding space")
        rules = {
            "precision": options.precision,
            "image_size": side,
            "resize": checkpoint.preprocessing.resize,
            "image_rules": options.image_rules,
            "jpeg_decoding": options.jpeg_decoding,
            "tokenizer": [checkpoint.tokenization.kind, dict(checkpoint.tokenization.settings)],
            "context_length": context_length,
            "text_rules": options.text_rules,
        }
        space = fingerprint({"vision": vision, "text": text}, rules, checkpoint.tokenization.files.values())
        card = ModelCard(
            family=checkpoint.family,
            checkpoint=checkpoint.origin.source,
            fingerprint=space,
            embedding_dimension=checkpoint.embedding_dimension,
            image_size=side,
            resize=checkpoint.preprocessing.resize,
            image_rules=options.image_rules,
            jpeg_decoding=options.jpeg_decoding,
            context_length=context_length,
            logit_scale=checkpoint.logit_scale,
            precision=options.precision,
            max_batch_size=options.max_batch_size,
        )
        for template in sorted(templates().glob("*/config.pbtxt")):
            config = render_config(template, card)
            write_config(config, config_path(staged, template.parent.name))

        progress("comparing images with the reference")
        image_deviation = verify_images(staged, checkpoint, options)
        progress("comparing texts with the reference")
        text_deviation = verify_texts(staged, checkpoint, options)

        progress("writing the manifest")
        manifest = Manifest(
            **vars(card),
            text_rules=options.text_rules,
            image_deviation=image_deviation,
            text_deviation=text_deviation,
            versions=library_versions(),
            sources={name: sha256_of(path) for name, path in checkpoint.origin.files.items()},
            files=file_hashes(staged),
        )
        manifest.write(staged)
    return manifest


def _context_length(checkpoint: Checkpoint, options: BuildOptions) -> int:
    rules = checkpoint.tokenization
    length = options.context_length or rules.default_context_length
    if length > rules.max_context_length:
        raise BuildError(
            f"a context length of {length} is more than the checkpoint's {rules.max_context_length} positions"
        )
    return length


def _check_text_rules(checkpoint: Checkpoint, options: BuildOptions) -> None:
    known = checkpoint.tokenization.text_rules
    if options.text_rules not in known:
        raise BuildError(f"text rules of {checkpoint.family} are {' or '.join(known)}, not {options.text_rules}")


def _write_assets(staged: Path, checkpoint: Checkpoint, options: BuildOptions, context_length: int) -> None:
    """The version folders, the Python models' code, and the settings that their code reads."""
    for template in templates().glob("*/config.pbtxt"):
        # Triton wants a version folder in an ensemble too, and an empty one does not survive every copy.
        version = staged / template.parent.name / "1"
        version.mkdir(parents=True)
        (version / ".keep").touch()
    for model in _PYTHON_MODELS:
        for path in (*templates().glob(f"{model}/1/*.py"), *templates().glob("shared/*.py")):
            shutil.copy(path, staged / model / "1")
    images = staged / "image_preprocessing" / "1"
    preprocessing = {
        "image_size": checkpoint.preprocessing.image_size,
        "resize": checkpoint.preprocessing.resize,
        "rules": options.image_rules,
        "jpeg_decoding": options.jpeg_decoding,
    }
    (images / "preprocessing.json").write_text(json.dumps(preprocessing, indent=2), encoding="utf-8")
    texts = staged / "text_tokenization" / "1"
    (texts / "tokenizer.json").write_text(
        json.dumps(_tokenizer_settings(checkpoint, options, context_length), indent=2), encoding="utf-8"
    )
    for name, path in checkpoint.tokenization.files.items():
        shutil.copy(path, texts / name)


def _tokenizer_settings(checkpoint: Checkpoint, options: BuildOptions, context_length: int) -> dict[str, object]:
    rules = dict(checkpoint.tokenization.settings)
    if options.text_rules == "evaluation":
        rules["straighten_quotes"] = True
    return {
        "kind": checkpoint.tokenization.kind,
        "rules": rules,
        "context_length": context_length,
        "unmasked": options.text_rules == "unmasked",
    }


def _model_file(staged: Path, model: str) -> Path:
    return staged / model / "1" / "model.pt"
