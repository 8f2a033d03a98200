"""The command ``python -m tuwen_lab.published``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError

from tuwen import Client, TuwenError
from tuwen_build.errors import CheckpointError
from tuwen_build.repository import build_repository
from tuwen_build.transformers_logging import quiet_transformers
from tuwen_lab.datasets import RetrievalSplit
from tuwen_lab.published._checkpoints import CHECKPOINTS, PublishedCheckpoint
from tuwen_lab.published._checks import (
    Check,
    HubUnreachableError,
    check_example,
    check_recalls,
    fetch_picture,
    splits_at_hand,
)
from tuwen_server import EmbeddedServer, ServerOptions, ensure_installed, guarded_folder
from tuwen_server.signals import stop_on_signals

__all__ = ["main"]

HOLDS, DIFFERS, UNREACHABLE = 0, 1, 3
_SECONDS = 10.0


def main(arguments: Sequence[str] | None = None, checkpoints: Sequence[PublishedCheckpoint] = CHECKPOINTS) -> int:
    """Verify each checkpoint that has an example or an available data set, and print every comparison.

    Returns:
        0 if every number holds, 1 if one differs, 3 if the hub cannot be reached.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tuwen_lab.published",
        description="Fetch published checkpoints, build and serve them, and compare them with published numbers.",
        epilog="Exit code: 0 if every number holds, 1 if one differs, 3 if the hub cannot be reached.",
    )
    parser.add_argument("--data", type=Path, help="Folder with the data sets MUGE, Flickr30k-CN and COCO-CN.")
    parser.add_argument("--picture", type=Path, help="File of the example's picture. Default: download it.")
    options = parser.parse_args(arguments)
    if options.data is not None and not options.data.is_dir():
        parser.error(f"--data: expected a folder, got '{options.data}'")
    if options.picture is not None and not options.picture.is_file():
        parser.error(f"--picture: expected a file, got '{options.picture}'")
    quiet_transformers()
    try:
        with stop_on_signals():
            return _verify_all(checkpoints, options.data, options.picture)
    except HubUnreachableError as error:
        _say(
            f"NOT VERIFIED: {error}. Run this command on a machine that reaches the hub and the picture, "
            "or set HF_ENDPOINT to a mirror of the hub."
        )
        return UNREACHABLE
    except TuwenError as error:
        _say(f"FAILED: {error}")
        return DIFFERS
    except KeyboardInterrupt:
        return 130


def _verify_all(checkpoints: Sequence[PublishedCheckpoint], data: Path | None, picture: Path | None) -> int:
    checks: list[Check] = []
    for checkpoint in checkpoints:
        splits = splits_at_hand(data, checkpoint.architecture)
        if checkpoint.example is None and not splits:
            _say(f"{checkpoint.hub_id}: skipped, because no data set with published recalls is available (--data)")
            continue
        _check_reachable(checkpoint.hub_id)
        checks += _verify(checkpoint, splits, picture)
    differing = sum(not check.holds for check in checks)
    _say(f"{len(checks) - differing} of {len(checks)} published numbers hold")
    return DIFFERS if differing or not checks else HOLDS


def _check_reachable(hub_id: str) -> None:
    """Check that the hub answers, or that the local cache holds an earlier download of the checkpoint.

    Raises:
        CheckpointError: the hub answers that it does not have the checkpoint.
        HubUnreachableError: the hub does not answer, and the local cache does not hold the checkpoint.
    """
    try:
        HfApi().model_info(hub_id, timeout=_SECONDS)
    except RepositoryNotFoundError as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{hub_id} is not on {constants.ENDPOINT}: {reason}") from error
    except Exception as error:  # the hub client raises its own errors, its HTTP library's and OSError's, by version
        try:
            snapshot_download(hub_id, local_files_only=True)
        except Exception:
            raise HubUnreachableError(f"cannot reach {constants.ENDPOINT} for {hub_id} ({error})") from error
        _say(f"{hub_id}: the hub does not answer ({error}), so the cached download is used")


def _verify(checkpoint: PublishedCheckpoint, splits: dict[str, RetrievalSplit], picture: Path | None) -> list[Check]:
    """Build and serve one checkpoint, and print and return the comparisons."""
    content = b""
    if checkpoint.example is not None:
        content = picture.read_bytes() if picture is not None else fetch_picture(checkpoint.example.pictures)
    ensure_installed(say=_say)
    with guarded_folder() as folder:
        repository = folder / "repository"
        manifest = build_repository(
            checkpoint.hub_id, repository, progress=lambda step: _say(f"{checkpoint.hub_id}: {step}")
        )
        _say(f"{checkpoint.hub_id}: serving the embedding space {manifest.fingerprint}")
        with EmbeddedServer(repository, ServerOptions.on_free_ports()) as server, Client(server.grpc_url) as clip:
            checks = [] if checkpoint.example is None else check_example(clip, checkpoint.example, content)
            checks += check_recalls(clip, checkpoint.architecture, splits)
    for check in checks:
        _say(f"{checkpoint.hub_id}: {check}")
    return checks


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
