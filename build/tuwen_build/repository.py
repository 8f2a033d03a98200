"""Building a verified Triton model repository from a checkpoint. Nothing is written if the verification fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tuwen_build.checkpoints import Checkpoint, open_checkpoint
from tuwen_build.errors import BuildError
from tuwen_build.explanation import explain
from tuwen_build.export.assembly import assemble, name_models
from tuwen_build.hardware import choose_precision
from tuwen_build.options import BuildOptions, ReadOptions
from tuwen_build.outputs import OutputFolder
from tuwen_build.verification.verify import verify_images, verify_kernels, verify_texts
from tuwen_files.disk_space import check_space
from tuwen_repository.checksums import file_hashes, sha256_of
from tuwen_repository.environment import gpu_environment
from tuwen_repository.int8_kernels import int8_obstacle
from tuwen_repository.manifest import MANIFEST, Manifest, library_versions

__all__ = ["BuildOptions", "ReadOptions", "build_repository"]

_SMALL_FILES = 4 << 20  # bytes, about: code, vocabulary, configs, and what TorchScript adds to the weights


def build_repository(
    source: str,
    output: Path,
    options: BuildOptions | None = None,
    *,
    read_options: ReadOptions | None = None,
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Build a Triton model repository from a checkpoint, and compare it with the reference.

    Args:
        source: a checkpoint folder or file, or a hub id.
        output: the folder to create; it appears complete or not at all.
        options: the precision, the batch size and the other choices of the build.
        read_options: facts that the checkpoint's files lack.
        force: whether an earlier build in `output` may be replaced.
        progress: a function that is called with the name of each step when the step begins.

    Raises:
        BuildError: a subclass in `tuwen_build.errors` says what failed. `output` is unchanged.
        DiskFullError: the disk has too little free space for the repository. `output` is unchanged.
    """
    options = options or BuildOptions()
    if options.precision == "auto":
        options = replace(options, precision=choose_precision().precision)
    if options.precision == "int8" and (obstacle := int8_obstacle()) is not None:
        raise BuildError(f"cannot build with precision int8: {obstacle}")
    with OutputFolder(output, MANIFEST, force).staged() as staged:
        progress("reading the checkpoint")
        checkpoint = open_checkpoint(source, read_options)
        check_space(output, _peak_bytes(checkpoint, options), "the repository")
        card = assemble(staged, checkpoint, options, progress=progress)

        verify_kernels(options)
        progress("comparing images with the reference")
        image_deviation = verify_images(staged, checkpoint, options)
        progress("comparing texts with the reference")
        text_deviation = verify_texts(staged, checkpoint, options)

        name_models(staged, options.name)
        progress("writing the manifest")
        manifest = Manifest(
            **vars(card),
            text_rules=options.text_rules,
            image_deviation=image_deviation,
            text_deviation=text_deviation,
            versions=library_versions(),
            sources={name: sha256_of(path) for name, path in checkpoint.origin.files.items()},
            files=file_hashes(staged),
            gpu_environment=gpu_environment(options.encoder_precision),
        )
        manifest.write(staged)
    return manifest


def _peak_bytes(checkpoint: Checkpoint, options: BuildOptions) -> int:
    """Return the largest size of a repository while it is written: each encoder lies on the disk twice for a moment."""
    explanation = explain(checkpoint)
    vision, text = (tower.bytes[options.encoder_precision] for tower in (explanation.vision, explanation.text))
    return max(2 * vision, vision + 2 * text) + _SMALL_FILES
