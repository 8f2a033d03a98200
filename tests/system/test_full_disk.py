"""Commands on a disk without enough space print one sentence and leave no incomplete file.

If the needed space is known, a command refuses to start; otherwise it ends when the disk is full. Each command runs in
its own mount namespace, in which a small tmpfs is mounted on the current folder.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from tests.support.command import tuwen_process
from tests.support.servers import RecordedServer
from tests.support.shapes import write_shapes

pytest.importorskip("pymilvus")
_UNSHARE = ["unshare", "--mount", "sh", "-c"]
_BLIND = """
import shutil, sys
shutil.disk_usage = lambda _: shutil._ntuple_diskusage(1 << 60, 0, 1 << 60)
sys.argv[0] = "tuwen"
from tuwen_cli import main
main()
"""
"""A program that runs the command line and reports endless free space.

The check before the work then passes, and the command meets the full disk when it writes.
"""

pytestmark = pytest.mark.skipif(
    not shutil.which("unshare")
    or bool(subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode),
    reason="mounting a small disk needs root and the program unshare",
)


@dataclass(frozen=True)
class Shop:
    """The inputs of the commands.

    Attributes:
        pictures: the folder of the pictures.
        store: the file with the collection ``shop`` of the pictures.
        data: the folder of image-text pairs for training.
        checkpoint: the folder of a checkpoint.
        url: the address of the server.
    """

    pictures: Path
    store: Path
    data: Path
    checkpoint: Path
    url: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "pictures").mkdir()
    for number in range(300):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
    write_shapes(folder)
    return folder


@pytest.fixture
def shop(folder: Path, checkpoint: Path, server: RecordedServer) -> Shop:
    store = folder / "shop.db"
    if not store.exists():
        arguments = ("--into", "shop", "--store", str(store), "--url", server.grpc_url)
        tuwen_process("index", str(folder / "pictures"), *arguments)
    return Shop(folder / "pictures", store, folder, checkpoint, server.grpc_url)


Command = Callable[[Shop], list[str]]
COMMANDS: dict[str, tuple[Command, dict[str, str]]] = {
    "build": (lambda shop: ["build", str(shop.checkpoint), "-o", "repository"], {"known": "10m"}),
    "embed npz": (
        lambda shop: ["embed", str(shop.pictures), "-o", "v.npz", "--url", shop.url],
        {"known": "64k", "unknown": "64k"},
    ),
    "embed parquet": (
        lambda shop: ["embed", str(shop.pictures), "-o", "v.parquet", "--url", shop.url],
        {"known": "64k", "unknown": "64k"},
    ),
    "index": (
        lambda shop: ["index", str(shop.pictures), "--into", "new", "--store", "new.db", "--url", shop.url],
        {"known": "100k", "unknown": "100k"},
    ),
    "copy": (
        lambda shop: ["collections", "copy", "shop", "copy", "--store", str(shop.store), "--to", "copy.db"],
        {"known": "100k", "unknown": "100k"},
    ),
    "train": (
        lambda shop: ["train", str(shop.data), "-o", "trained", "--checkpoint", str(shop.checkpoint), "--epochs", "1"],
        {"known": "20m", "unknown": "20m"},
    ),
    "train from random weights": (
        lambda shop: ["train", str(shop.data), "-o", "trained", "--start-epochs", "1"],
        {"known": "4m", "unknown": "4m"},
    ),
    "search": (
        lambda shop: ["search", "shop", "猫", "--store", str(shop.store), "--show", "a.png", "--url", shop.url],
        {"unknown": "4k"},
    ),
}
CASES = [(name, kind, size) for name, (_, sizes) in COMMANDS.items() for kind, size in sizes.items()]


@pytest.mark.parametrize(("name", "kind", "size"), CASES, ids=[f"{name}, {kind} size" for name, kind, _ in CASES])
def test_a_full_disk_prints_one_sentence_and_leaves_no_incomplete_file(
    shop: Shop, tmp_path: Path, name: str, kind: str, size: str
) -> None:
    arguments = COMMANDS[name][0](shop)
    program = [sys.executable, "-m", "tuwen_cli"] if kind == "known" else [sys.executable, "-c", _BLIND]
    ended, left = on_a_small_disk(tmp_path, size, [*program, *arguments])
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    [message] = [line for line in ended.stderr.splitlines() if line.startswith("tuwen: ")]
    assert "free some space" in message
    if kind == "known":
        assert "not enough space in" in message
        assert "are free" in message
    else:
        assert "the disk is full" in message
    assert not [path for path in left if not path.startswith(("./new.db", "./copy.db"))]
    assert not [path for path in left if "collections/" in path]  # a new store may exist, but must hold no collection


def on_a_small_disk(folder: Path, size: str, command: list[str]) -> tuple[CompletedProcess[str], list[str]]:
    """Run a command in a folder on which a small disk is mounted.

    Args:
        folder: the folder on which the disk is mounted.
        size: the size of the disk, such as ``64k``.
        command: the command with its arguments.

    Returns:
        The finished process, and the paths of the files that the command left on the disk.
    """
    script = (
        'mount -t tmpfs -o size="$1" tmpfs . && cd "$PWD" && shift && "$@"; code=$?; find . -mindepth 1; exit $code'
    )
    ended = subprocess.run(
        [*_UNSHARE, script, "sh", size, *command], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    return ended, [line for line in ended.stdout.splitlines() if line.startswith("./")]
