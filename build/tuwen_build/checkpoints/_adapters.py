"""Adapters of peft, such as LoRA. On request, an adapter is merged into a copy of its base model."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import safe_open
from transformers import BertForSequenceClassification, BertModel, ChineseCLIPModel, CLIPModel

from tuwen import MissingExtraError
from tuwen_build.checkpoints._folders import ADAPTER_FILES, adapter_base, adapter_files
from tuwen_build.checkpoints._pretrained import load_pretrained, model_type, weight_files, weight_names
from tuwen_build.checkpoints._source import locate
from tuwen_build.checkpoints._weights import first_line, some
from tuwen_build.errors import CheckpointError
from tuwen_files.disk_space import full_disk_named

__all__ = ["MergedCheckpoint", "merged_checkpoint"]


@dataclass(frozen=True)
class MergedCheckpoint:
    """A checkpoint in the layout of Hugging Face, with an adapter merged into its weights.

    Attributes:
        folder: the folder of the merged checkpoint.
        files: the files of the base model and of the adapter, by their names in the manifest.
    """

    folder: Path
    files: Mapping[str, Path]


@contextmanager
def merged_checkpoint(source: str) -> Iterator[MergedCheckpoint]:
    """Provide a temporary copy of a base model with an adapter merged into it. The copy is removed on exit.

    The base model is the checkpoint beside the adapter, or else the one that ``adapter_config.json`` names. Vocabulary
    and preprocessor files beside the adapter replace those of the base model.

    Args:
        source: a folder or hub id that holds an adapter.

    Raises:
        CheckpointError: there is no adapter, its base model is missing or not of a family that transformers loads, or
            the adapter's weights do not fit the base model.
        MissingExtraError: peft is not installed.
    """
    folder = locate(source, adapter=True)
    present = adapter_files(folder)
    if ADAPTER_FILES[0] not in present or len(present) < 2:
        missing = "adapter_model.safetensors" if ADAPTER_FILES[0] in present else ADAPTER_FILES[0]
        raise CheckpointError(
            f"{source} holds no adapter to merge: {missing} is missing; for a whole model, leave out --merge-adapter"
        )
    base = folder if (folder / "config.json").is_file() else _base_of(folder)
    with TemporaryDirectory(prefix="tuwen-adapter-") as name:
        plain, merged = Path(name, "base"), Path(name, "merged")
        plain.mkdir()
        for path in base.iterdir():  # leave the adapter out, because transformers would load it by itself
            if path.is_file() and path.name not in ADAPTER_FILES:
                (plain / path.name).symlink_to(path.resolve())
        model = _merged(_load_base(plain, base), folder)
        with full_disk_named(merged):
            model.save_pretrained(merged)
        for origin in (plain, folder):
            for path in filter(_is_description, origin.iterdir()):
                shutil.copy(path, merged / path.name)
        files = {**weight_files(plain), **{f"adapter/{file}": folder / file for file in present}}
        yield MergedCheckpoint(merged, {name: path.resolve() for name, path in files.items()})


def _is_description(path: Path) -> bool:
    """Return whether a file describes inputs (vocabulary, tokenizer, preprocessing) rather than weights."""
    other = path.name in (*ADAPTER_FILES, "config.json") or path.name.endswith(".index.json")
    return path.is_file() and path.suffix in (".json", ".txt") and not other


def _base_of(folder: Path) -> Path:
    """Return the folder of the base model that an adapter's configuration names."""
    named = adapter_base(folder)
    if named is None:
        raise CheckpointError(
            f"{folder / ADAPTER_FILES[0]} does not name a base model (base_model_name_or_path); put the adapter's "
            "files into the folder of its base model"
        )
    beside = folder / named
    try:
        return locate(str(beside) if beside.is_dir() else named)
    except CheckpointError as error:
        raise CheckpointError(f"cannot open {named}, the base model of the adapter in {folder}: {error}") from error


def _load_base(plain: Path, base: Path) -> Any:
    kind = model_type(plain)
    if kind == "chinese_clip":
        return load_pretrained(ChineseCLIPModel, plain, unused=("pooler.dense.weight", "pooler.dense.bias"))
    if kind == "clip":
        return load_pretrained(CLIPModel, plain)
    if kind == "bert":
        classifies = any(name.startswith("classifier.") for name in weight_names(plain))
        return load_pretrained(BertForSequenceClassification if classifies else BertModel, plain)
    raise CheckpointError(
        f"cannot merge an adapter into the base model {base}: its config.json says model_type {json.dumps(kind)}; "
        "expected chinese_clip, clip or bert, in the layout of Hugging Face"
    )


def _merged(model: Any, folder: Path) -> Any:
    """Return the model after the adapter's weights are added to the model's weights."""
    try:
        from peft import PeftModel, get_peft_model_state_dict  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError(f"merging an adapter needs an extra ({error}): pip install 'tuwen[peft]'") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft only warns of missing weights, which are refused below
            adapted = PeftModel.from_pretrained(model, str(folder), local_files_only=True)
            # Leave the embeddings out, because peft would ask the hub whether the base model's vocabulary has changed.
            expected = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
        given = _adapter_names(folder)
    except Exception as error:  # peft raises its own errors, torch's and those of its configuration
        raise CheckpointError(f"{folder}: cannot load the adapter: {first_line(error)}") from error
    problems = {"the adapter lacks": expected - given, "the base model has no place for": given - expected}
    for problem, names in problems.items():
        if names:
            raise CheckpointError(f"{folder}: the adapter does not fit its base model: {problem} {some(names)}")
    try:
        return adapted.merge_and_unload(safe_merge=True)
    except Exception as error:  # a kind of adapter that cannot be merged, or NaN
        raise CheckpointError(f"{folder}: cannot merge the adapter: {first_line(error)}") from error


def _adapter_names(folder: Path) -> set[str]:
    path = folder / ADAPTER_FILES[1]
    if not path.is_file():
        return set(torch.load(folder / ADAPTER_FILES[2], map_location="cpu", weights_only=True))
    with safe_open(path, framework="pt") as file:
        return set(file.keys())
