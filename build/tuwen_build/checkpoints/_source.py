"""Finding the file or folder of a checkpoint from a path or a hub id."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import OfflineModeIsEnabled

from tuwen_build.checkpoints._folders import check_no_adapter, model_folder
from tuwen_build.checkpoints._hub import HubUnreachableError, hub_address, hub_files
from tuwen_build.errors import CheckpointError
from tuwen_files.disk_space import is_disk_full, os_reason

__all__ = ["locate"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_MODELSCOPE_OWNERS = ("damo", "iic")  # Alibaba's names on ModelScope, which do not exist on Hugging Face
# Weights beside one of these files need it, except a native .pt file, which some repositories hold too.
_DESCRIPTIONS = ("config.json", "vision_model_config.json")
_ALWAYS = ["*.json", "*.txt"]
_ADVICE = "set HF_ENDPOINT to a mirror or HTTPS_PROXY to a proxy, or download the model elsewhere and pass its folder"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.pt")  # the first kind that exists is fetched


def locate(source: str, *, adapter: bool = False) -> Path:
    """Return the local file or folder of a checkpoint.

    For a hub id, this is the model's folder in the hub's local cache. Ids of the form ``damo/...`` belong to the hub of
    ModelScope. For a folder of sentence-transformers, this is the inner folder of the CLIP model.

    Args:
        source: a path or a hub id.
        adapter: whether the folder may hold an adapter.

    Raises:
        CheckpointError: the source is neither a path nor a hub id, or the folder holds unsupported modules of
            sentence-transformers. The same error is raised for an adapter if `adapter` is false. It is also raised if
            the hub cannot be reached and the local cache lacks the model.
    """
    folder = model_folder(_located(source))
    if not adapter:
        check_no_adapter(folder)
    return folder


def _located(source: str) -> Path:
    path = Path(source).expanduser()
    described = any((path.parent / name).is_file() for name in _DESCRIPTIONS)
    if path.is_file() and described and path.suffix != ".pt":
        raise CheckpointError(f"{source} is one file of a checkpoint; pass its folder, {path.parent}")
    if path.is_file() or path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"{source} is a FIFO, a socket or a device; expected a folder or a file")
    if not _HUB_ID.fullmatch(source):
        raise CheckpointError(f"{source}: no such file or folder, and not a hub id of the form owner/name")
    if source.partition("/")[0] in _MODELSCOPE_OWNERS:
        return _download_from_modelscope(source)
    return _download(source)


def _download(hub_id: str) -> Path:
    try:
        names = hub_files(hub_id)
    except OfflineModeIsEnabled:
        return _cached(hub_id, "HF_HUB_OFFLINE is set")
    except HubUnreachableError as error:
        return _cached(hub_id, str(error))
    except Exception as error:  # an answer of the hub: no such model, or no access to it
        raise CheckpointError(f"{hub_address()} refused {hub_id}: {_first_sentence(error)}; {_ADVICE}") from error
    present = (kind for kind in _WEIGHTS if any(Path(name).match(kind) for name in names))
    kind = next(present, None)
    patterns = [*_ALWAYS, *([kind] if kind else [])]
    if kind and "modules.json" in names:  # sentence-transformers keeps the model in a folder of its own
        patterns.append(f"*CLIPModel/{kind}")
    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns))
    except Exception as error:  # the hub client raises its own errors, its HTTP library's and OSError's, by version
        reason = os_reason(error) if is_disk_full(error) else _first_sentence(error)
        raise CheckpointError(f"cannot fetch {hub_id} from {hub_address()}: {reason}; {_ADVICE}") from error


def _cached(hub_id: str, why: str) -> Path:
    """Return the folder of a model in the hub's cache."""
    try:
        return Path(snapshot_download(hub_id, allow_patterns=[*_ALWAYS, *_WEIGHTS], local_files_only=True))
    except Exception as error:  # the hub client raises its own errors and OSError, by version
        raise CheckpointError(f"{hub_id} is not in the hub's cache, and {why}; {_ADVICE}") from error


def _download_from_modelscope(hub_id: str) -> Path:
    try:
        from modelscope import snapshot_download as download  # noqa: PLC0415 - optional: few need it
    except ImportError:
        raise CheckpointError(
            f"fetching {hub_id} from ModelScope needs a library: pip install modelscope; or download the model with "
            "another tool and pass its folder"
        ) from None
    try:
        return Path(download(hub_id))
    except Exception as error:  # modelscope raises its own errors and those of its HTTP library
        raise CheckpointError(f"cannot fetch {hub_id} from ModelScope: {error}") from error


def _first_sentence(error: Exception) -> str:
    """Return the first line of an error's message. If the message is empty, return the name of the error's class."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")
