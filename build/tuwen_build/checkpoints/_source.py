"""From what a user types to a folder on disk."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import list_repo_files, snapshot_download

from tuwen_build.errors import CheckpointError

__all__ = ["locate"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def locate(source: str) -> Path:
    """The folder of a checkpoint: a local one as it is, a Hugging Face hub id through the hub's cache.

    Raises:
        CheckpointError: neither a folder nor a hub id, or the hub cannot be reached and its cache holds nothing.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(f"{source} is a file; give the folder that holds config.json and the weights")
    if not _HUB_ID.fullmatch(source):
        raise CheckpointError(f"{source}: no such folder, and not a hub id of the form owner/name")
    return _download(source)


def _download(hub_id: str) -> Path:
    patterns = ["*.json", "*.txt", "*.safetensors"]
    try:
        names = list_repo_files(hub_id)
        if not any(name.endswith(".safetensors") for name in names):
            patterns.append("*.bin")
    except Exception:  # offline: whatever the cache holds has to do
        patterns.append("*.bin")
    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns))
    except Exception as error:  # the hub client raises its own errors, its HTTP library's and OSError's, by version
        raise CheckpointError(f"cannot fetch {hub_id} from the hub, and it is not in the cache: {error}") from error
