"""An example for every error class: a call that raises it. The page of error messages and its test use the examples."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import platform
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

import tuwen
from tuwen import _messages, pixels
from tuwen._transport import Forks
from tuwen.testing import FakeTransport

__all__ = ["EXAMPLES", "Example"]


@dataclass(frozen=True)
class Example:
    """An error and a call that raises it.

    Attributes:
        error: the name of the error class.
        call: a function that raises the error. It gets an empty folder, which the page calls ``/data``.
        remedy: the advice to the reader, in one sentence.
        retry: whether the same request may succeed later without a change.
    """

    error: str
    call: Callable[[Path], object]
    remedy: str
    retry: bool = False


def _client() -> tuwen.Client:
    return tuwen.Client(transport=FakeTransport())


def _server(code: str, message: str) -> Callable[[Path], object]:
    def answer(_: Path) -> None:
        status = SimpleNamespace(code=lambda: SimpleNamespace(name=code), details=lambda: message)
        raise _messages.server_error(status, "text_embedding", "7f3a")

    return answer


def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    return file.getvalue()


def _closed(_: Path) -> None:
    clip = _client()
    clip.close()
    clip.embed_texts(["一只猫"])


def _second_loop(_: Path) -> None:
    clip = tuwen.AsyncClient("127.0.0.1:9", timeout=0.2)

    async def call() -> None:
        await clip.embed_texts(["一只猫"])

    with contextlib.suppress(tuwen.ServerError):
        asyncio.run(call())
    asyncio.run(call())


def _forked(_: Path) -> None:
    forks = Forks()
    forks.broken = True
    with patch.object(os, "getpid", return_value=4711):
        forks.check()


def _other_space(_: Path) -> None:
    from tuwen_files import EmbeddingTable

    tables = [EmbeddingTable(["cat.jpg"], np.eye(1, 4, dtype=np.float32), letter * 32) for letter in "ab"]
    tables[0].cosine(tables[1])


def _missing_extra(_: Path) -> None:
    from tuwen_cli.options import needs_extra

    with needs_extra("train"):
        raise ImportError("No module named 'torch'")


def _edge(folder: Path) -> None:
    from tuwen_edge.keys import KeyFile, new_key

    file = folder / "keys"
    file.write_text(new_key("shop")[1] + "\n", encoding="utf-8")
    KeyFile(file).name_of(None)


def _query(_: Path) -> None:
    from tuwen_search.query import Query

    Query()


def _source(folder: Path) -> None:
    from tuwen_search.sources import open_source

    open_source(folder / "pictures")


def _no_collection(_: Path) -> None:
    from tuwen_search.store import MilvusStore

    store: Any = SimpleNamespace(found_space=lambda _: None, names=lambda: ["shop"], url="search.db")
    MilvusStore.space(store, "shpo")


def _migration(_: Path) -> None:
    from tuwen_search.migration import migrate
    from tuwen_search.store import Space

    space = Space("0" * 32, "a checkpoint", 512)
    store: Any = SimpleNamespace(places=lambda _: ["shop"], found_space=lambda _: space)
    with _client() as client:
        migrate(store, "shop", client)


def _store(_: Path) -> None:
    from tuwen_search.store import MilvusStore

    store: Any = SimpleNamespace(url="search.db")
    raise MilvusStore._error(store, "open", SimpleNamespace(message="Open local milvus failed", code=0))


def _full_disk(folder: Path) -> None:
    from tuwen_files.disk_space import check_space

    usage = SimpleNamespace(total=1 << 40, free=3 << 20)
    with patch.object(shutil, "disk_usage", return_value=usage):
        check_space(folder / "repository", 1 << 30, "the repository")


def _full_state(folder: Path) -> None:
    from tuwen_lab.training._state import save_state

    (folder / "state.part").symlink_to("/dev/full")
    save_state(folder / "state.pt", {})


def _no_repository(folder: Path) -> None:
    from tuwen_repository.manifest import Manifest

    Manifest.read(folder)


def _damaged(folder: Path) -> None:
    from tuwen_repository.manifest import Manifest

    (folder / "model.pt").write_bytes(b"other weights")
    manifest: Any = SimpleNamespace(files={"model.pt": hashlib.sha256(b"weights").hexdigest()})
    Manifest.check(manifest, folder)


def _no_checkpoint(folder: Path) -> None:
    from tuwen_build.checkpoints._source import locate

    locate(str(folder / "model"))


def _training_mode(folder: Path) -> None:
    import torch

    from tuwen_build.export.torchscript import export

    export(torch.nn.Linear(1, 1), (torch.ones(2, 1),), folder / "model.pt")


def _too_long(_: Path) -> None:
    from tuwen_build.export.assembly import context_length
    from tuwen_build.options import BuildOptions

    checkpoint: Any = SimpleNamespace(tokenization=SimpleNamespace(max_context_length=512, default_context_length=52))
    context_length(checkpoint, BuildOptions(context_length=1000))


def _saturating(_: Path) -> None:
    from tuwen_build.options import BuildOptions
    from tuwen_build.verification import verify

    with patch.object(verify, "int8_products_are_exact", return_value=False):
        verify.verify_kernels(BuildOptions(precision="int8"))


def _output(folder: Path) -> None:
    from tuwen_build.outputs import OutputFolder

    file = folder / "repository"
    file.touch()
    OutputFolder(file, "manifest.json").check()


def _platform(_: Path) -> None:
    from tuwen_server._installation import check_platform

    with patch.object(platform, "system", return_value="Darwin"), patch.object(platform, "machine", lambda: "arm64"):
        check_platform()


def _no_wheels(folder: Path) -> None:
    from tuwen_server import _installation

    with patch.object(_installation, "check_platform"):
        _installation.install_server(wheels=folder / "wheels", say=print)


def _port(_: Path) -> None:
    from tuwen_server import ServerOptions

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        try:
            ServerOptions(grpc_port=port, http_port=0, metrics_port=0).with_ports_resolved()
        except tuwen.TuwenError as error:
            raise type(error)(str(error).replace(str(port), "8001")) from None


def _shared_memory(_: Path) -> None:
    from tuwen_server import _embedded

    one: Any = [SimpleNamespace(processes=lambda: 1)]
    with patch.object(shutil, "disk_usage", return_value=SimpleNamespace(free=0)):
        _embedded._check_shared_memory(one)


def _dies(_: Path) -> None:
    from tuwen_server._supervisor import supervise

    server: Any = SimpleNamespace(trouble=lambda: "the Python process of text_encoder died")
    supervise(server, restarts=0, say=lambda _: None)


def _not_ready(_: Path) -> None:
    from tuwen_server._embedded import EmbeddedServer

    server: Any = SimpleNamespace(
        _process=SimpleNamespace(poll=lambda: 1),
        _clock=SimpleNamespace(now=lambda: 0.0),
        _options=SimpleNamespace(ready_timeout=300.0),
        _log=SimpleNamespace(close=lambda: None),
        _telling_lines=lambda: "error: failed to load all models",
        http_url="http://127.0.0.1:9",
        grpc_url="127.0.0.1:9",
    )
    EmbeddedServer._wait_until_ready(server)


def _no_control(_: Path) -> None:
    from tritonclient.utils import InferenceServerException

    from tuwen_server._remote import RemoteControl

    server: Any = SimpleNamespace(_url="gpu-node:8001")
    with RemoteControl._typed(server, "load text_encoder"):
        raise InferenceServerException("failed to load 'text_encoder'")


def _hub(_: Path) -> None:
    from tuwen_lab.published._checks import fetch_picture

    fetch_picture([])


def _locust(_: Path) -> None:
    from tuwen_loadtest import _session

    plan: Any = SimpleNamespace(
        seconds=60,
        deadline=5,
        command=lambda _: ["locust"],
        connection=SimpleNamespace(to_environment=dict),
    )
    done = SimpleNamespace(returncode=1, stderr="ModuleNotFoundError: No module named 'locust'")
    with patch.object(subprocess, "run", return_value=done), patch.object(tempfile, "tempdir", None):
        _session._run_locust(plan)


_NO_CONNECTION = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:8001: "
_REBUILD = "Serve a repository that `tuwen build` made."
EXAMPLES = (
    Example(
        "InvalidArgumentError",
        lambda _: _client().embed_texts("一只猫"),
        "Correct the call. The message says what was expected.",
    ),
    Example(
        "InvalidItemsError",
        lambda _: _client().embed_images([b"not an image"]),
        "Read the reasons in `error.failures`, or call `try_embed_images`.",
    ),
    Example(
        "ItemError",
        lambda _: pixels.check_structure(_picture(), pixels.ImageLimits(max_parts=2)),
        "Repair or leave out the item.",
    ),
    Example("ClientClosedError", _closed, "Make a new client."),
    Example("EventLoopError", _second_loop, "Make one `AsyncClient` in each event loop."),
    Example("ForkError", _forked, "Start processes with `spawn` or `forkserver`, or fork before the first call."),
    Example("EmbeddingSpaceError", _other_space, "Start the server of the old model, or embed everything again."),
    Example(
        "ServerUnavailableError",
        _server("UNAVAILABLE", f"{_NO_CONNECTION}Connection refused"),
        "Wait until `tuwen status` says that the server is ready.",
        retry=True,
    ),
    Example(
        "ServerStoppingError",
        _server("CANCELLED", "the server is shutting down"),
        "Retry, or use another server.",
        retry=True,
    ),
    Example(
        "OverloadedError",
        _server("UNAVAILABLE", "Request timeout expired"),
        "Retry later, lower the rate, or add servers.",
        retry=True,
    ),
    Example(
        "DeadlineExceededError",
        _server("DEADLINE_EXCEEDED", "Deadline Exceeded"),
        "Raise `timeout`, or find the slow step with `clip.profile()`.",
    ),
    Example(
        "AddressError",
        _server("UNAVAILABLE", f"{_NO_CONNECTION}Trying to connect an http1.x server"),
        "Use the gRPC port, 8001 by default, and `tls=` if the server encrypts.",
    ),
    Example(
        "AccessDeniedError",
        _server("UNAUTHENTICATED", "invalid token"),
        "Pass the key with `headers=`, or the certificate with `tls=`.",
    ),
    Example(
        "ModelNotFoundError",
        _server("NOT_FOUND", "Request for unknown model: 'text_embedding' is not found"),
        _REBUILD,
    ),
    Example(
        "InferenceError",
        _server("INTERNAL", "PyTorch execute failure: out of memory"),
        "Look for `error.request_id` in the server's log.",
    ),
    Example(
        "InputShapeError",
        _server("INVALID_ARGUMENT", "unexpected shape for input 'pixel_values' for model 'pixel_embedding'"),
        "Make a new client, because the server's model now has other inputs.",
    ),
    Example("MissingExtraError", _missing_extra, "Install the extra that the message names."),
    Example("EdgeError", _edge, "The status and `error.code` of the response say what is wrong with the request."),
    Example("QueryError", _query, "Correct the query."),
    Example("SourceError", _source, "Check the path and its permissions."),
    Example("CollectionNotFoundError", _no_collection, "List the collections with `tuwen collections list`."),
    Example("MigrationError", _migration, "Do what the message says: for example, name a server with another model."),
    Example("StoreError", _store, "Close the other process, or start the Milvus server.", retry=True),
    Example("DiskFullError", _full_disk, "Free some space, or choose an output on another disk."),
    Example("TrainingStateError", _full_state, "Free some space, and resume the training."),
    Example("NotARepositoryError", _no_repository, "Name a folder that `tuwen build` made."),
    Example("DamagedRepositoryError", _damaged, "Copy the repository again, or build it again with `--force`."),
    Example("BuildError", _too_long, "Change the option that the message names."),
    Example("CheckpointError", _no_checkpoint, "Correct the path, the hub id or the file that the message names."),
    Example("ExportError", _training_mode, "Report the error to the project, because the encoder cannot be exported."),
    Example("VerificationError", _saturating, "Choose another precision. Nothing was written."),
    Example("OutputExistsError", _output, "Choose another output, or pass `--force` to replace an earlier one."),
    Example("ServeError", _dies, "Read the log, and correct the cause that it names."),
    Example("UnsupportedPlatformError", _platform, "Serve with NVIDIA's container, or install what is missing."),
    Example("InstallationError", _no_wheels, "Install what the message names, then run `tuwen server install`."),
    Example("PortTakenError", _port, "Choose another port, or 0 for a free one."),
    Example(
        "ModelControlError", _no_control, "Do what the message says: for example, start the server with model control."
    ),
    Example("SharedMemoryError", _shared_memory, "Enlarge /dev/shm."),
    Example("ServerStartError", _not_ready, "Correct the cause in the quoted lines of the log."),
    Example("LoadTestError", _locust, "Correct the cause in the output of Locust."),
    Example(
        "HubUnreachableError",
        _hub,
        "Repeat the command on a machine that reaches the hub, or set `HF_ENDPOINT` to a mirror.",
    ),
)
"""One example for each error class that the packages raise."""
