"""Folders and files that are not yet a checkpoint: pointers of Git LFS, adapters, folders of sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path

from tuwen_build.errors import CheckpointError

__all__ = ["ADAPTER_FILES", "adapter_base", "adapter_files", "check_no_adapter", "check_no_pointer", "model_folder"]

_POINTER = b"version https://git-lfs.github.com/spec/"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
"""The files that peft saves: the configuration of an adapter, and its weights in one of two formats."""


def check_no_pointer(path: Path) -> None:
    """Reject a file that Git LFS has not fetched yet.

    Raises:
        CheckpointError: the file is a pointer. The message says how to fetch the real file.
    """
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise CheckpointError(
                f"{path} is a Git LFS pointer, not the file itself: run 'git lfs pull' in {path.parent} to fetch it"
            )


def check_no_adapter(folder: Path) -> None:
    """Reject a folder with a LoRA adapter, whose weights must be merged into its base model.

    Raises:
        CheckpointError: the folder holds an adapter. The message says how to merge it.
    """
    present = adapter_files(folder)
    if not present:
        return
    base = adapter_base(folder) or "that the adapter was trained on"
    raise CheckpointError(
        f"{folder} holds a LoRA adapter ({present[0]}), which must be merged into its base model first. Build "
        "with --merge-adapter (pip install 'tuwen[peft]'), or merge it with peft yourself: "
        f"PeftModel.from_pretrained(base, {str(folder)!r}).merge_and_unload().save_pretrained('merged'), "
        f"where base is the model {base}; copy the base's tokenizer and preprocessor files to 'merged', and build "
        "from 'merged'"
    )


def adapter_files(folder: Path) -> list[str]:
    """Return the names of the files of an adapter in a folder, the configuration first."""
    return [name for name in ADAPTER_FILES if (folder / name).is_file()]


def adapter_base(folder: Path) -> str | None:
    """Return the hub id or the path of an adapter's base model; None: the adapter's configuration does not name one."""
    try:
        named = json.loads((folder / ADAPTER_FILES[0]).read_text(encoding="utf-8-sig"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return named if isinstance(named, str) and named else None


def model_folder(path: Path) -> Path:
    """Return the folder of the CLIP model in a folder of sentence-transformers. Any other path is returned unchanged.

    sentence-transformers lists its modules in ``modules.json``. Its module ``Normalize`` makes unit vectors, as every
    build does.

    Raises:
        CheckpointError: ``modules.json`` lists another module, which would change the vectors.
    """
    if not path.is_dir() or (path / "config.json").is_file():
        return path
    listing = path / "modules.json"
    if not listing.is_file():
        alone = path / "0_CLIPModel"
        return alone if alone.is_dir() else path
    try:
        modules = [(str(module["type"]), str(module["path"])) for module in json.loads(listing.read_bytes())]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{listing} is not a list of modules of sentence-transformers: {error!r}") from error
    kinds = [kind.rpartition(".")[2] for kind, _ in modules]
    if kinds[:1] != ["CLIPModel"] or any(kind != "Normalize" for kind in kinds[1:]):
        raise CheckpointError(
            f"{listing} lists the modules {', '.join(kinds) or 'none'}; supported: CLIPModel, alone or before Normalize"
        )
    folder = path / modules[0][1]
    if not folder.is_dir():
        raise CheckpointError(f"{listing} names the folder {modules[0][1]}, which is missing in {path}")
    return folder
