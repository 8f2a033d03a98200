"""Several processes can share one Milvus Lite file, and collections can be renamed and copied."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.collections import found, write
from tests.support.command import tuwen
from tests.support.grpc_server import GrpcServer
from tuwen import Client
from tuwen.testing import FakeTransport
from tuwen_search import Collection, CollectionNotFoundError, Query, QueryError
from tuwen_search.store import MilvusStore

_OWNER = """
import sys
from tuwen_search.store import MilvusStore
store = MilvusStore(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
print(store.names(), flush=True)
store.close()
"""


@contextmanager
def owner(path: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a second process that keeps the file open until its standard input is closed."""
    command = [sys.executable, "-c", _OWNER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_process_uses_the_file_and_takes_it_over(tmp_path: Path) -> None:
    path = str(tmp_path / "s.db")
    write(tmp_path, a=1, b=2)
    with owner(path) as process, Client(transport=FakeTransport(embedding_dimension=16)) as client:
        with Collection.open("shared", client, store=path, create=True) as pictures:
            assert pictures.add(tmp_path).added == 2
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            assert process.stdout.readline() == "['shared']\n"
            process.wait(30)
            assert len(found(pictures.search(Query(image=tmp_path / "a.png")))) == 2
            write(tmp_path, c=3)
            assert pictures.add(tmp_path).added == 1
        with Collection.open("shared", client, store=path) as again:
            assert again.count() == 3
    assert not Path(f"{path}.address").exists()


def test_a_killed_owner_leaves_a_store_that_opens(tmp_path: Path) -> None:
    path = str(tmp_path / "s.db")
    with owner(path) as process:
        process.kill()
        process.wait(30)
        assert Path(f"{path}.address").exists()
        with closing(MilvusStore(path)) as store:
            assert store.names() == []


def test_collections_are_renamed_copied_and_backed_up(tmp_path: Path) -> None:
    write(tmp_path, a=1, b=2)
    path, backup = str(tmp_path / "s.db"), str(tmp_path / "backup.db")
    with GrpcServer() as server:
        tuwen("index", str(tmp_path), "--into", "one", "--store", path, "--url", server.url)
        tuwen("collections", "rename", "one", "two", "--store", path)
        assert "2 pictures copied" in tuwen("collections", "copy", "two", "three", "--store", path).stdout
        tuwen("collections", "copy", "two", "two", "--to", backup, "--store", path)
        for store, name in ((path, "three"), (backup, "two"), (path, "two")):
            shown = tuwen("search", name, "猫", "--store", store, "--url", server.url).stdout
            assert "a.png" in shown
        assert (
            "2 unchanged" in tuwen("index", str(tmp_path), "--into", "three", "--store", path, "-u", server.url).stdout
        )
    with closing(MilvusStore(path)) as opened:
        assert opened.names() == ["three", "two"]
        for wrong, error in (
            (("two", "three"), QueryError),
            (("two", "no name"), QueryError),
            (("one", "x"), CollectionNotFoundError),
        ):
            for act in (opened.rename, opened.copy):
                with pytest.raises(error):
                    act(*wrong)
