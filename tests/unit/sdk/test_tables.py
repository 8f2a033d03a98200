"""Saved vectors: whole, resumable, and never of two spaces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tuwen import EmbeddingSpaceError, EmbeddingTable, InvalidArgumentError
from tuwen._table_writer import TableWriter

SUFFIXES = pytest.mark.parametrize("suffix", [".npz", ".parquet"])


def vectors(count: int, dimension: int = 8) -> NDArray[np.float32]:
    made = np.random.default_rng(0).standard_normal((count, dimension)).astype(np.float32)
    unit: NDArray[np.float32] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


def table(count: int, fingerprint: str = "a" * 32) -> EmbeddingTable:
    return EmbeddingTable([f"照片/{number}.jpg" for number in range(count)], vectors(count), fingerprint)


@SUFFIXES
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_what_is_saved_is_loaded(tmp_path: Path, suffix: str, count: int) -> None:
    saved = table(count)
    saved.save(tmp_path / f"v{suffix}")
    loaded = EmbeddingTable.load(tmp_path / f"v{suffix}", expected_fingerprint="a" * 32)
    assert list(loaded.keys) == list(saved.keys)
    assert loaded.fingerprint == saved.fingerprint
    assert loaded.embeddings.dtype == np.float32
    np.testing.assert_array_equal(loaded.embeddings, saved.embeddings)
    assert len(list(tmp_path.iterdir())) == 1


@SUFFIXES
def test_two_spaces_do_not_mix(tmp_path: Path, suffix: str) -> None:
    one, other = table(3), table(2, "b" * 32)
    one.save(tmp_path / f"v{suffix}")
    for mix in (
        lambda: one.joined(other),
        lambda: one.cosine(other),
        lambda: EmbeddingTable.load(tmp_path / f"v{suffix}", expected_fingerprint="b" * 32),
        lambda: TableWriter(tmp_path / f"v{suffix}", "b" * 32, 8),
    ):
        with pytest.raises(EmbeddingSpaceError):
            mix()


def test_one_space_does() -> None:
    one, other = table(3), table(2)
    assert len(one.joined(other)) == 5
    np.testing.assert_allclose(one.cosine(other), one.embeddings @ other.embeddings.T)


@pytest.mark.parametrize(
    ("keys", "shape", "fingerprint"), [(["a"], (2, 4), "x"), (["a"], (4,), "x"), (["a"], (1, 4), "")]
)
def test_what_does_not_fit_is_refused(keys: list[str], shape: tuple[int, ...], fingerprint: str) -> None:
    with pytest.raises(InvalidArgumentError):
        EmbeddingTable(keys, np.zeros(shape, dtype=np.float32), fingerprint)


@SUFFIXES
@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY", b"no table", b"PK\x03\x04broken", b"PAR1brokenPAR1"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, suffix: str, content: bytes | None) -> None:
    path = tmp_path / f"v{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=path.name):
        EmbeddingTable.load(path)


def test_a_foreign_table_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    np.savez(tmp_path / "v.npz", embeddings=vectors(3))
    parquet.write_table(pyarrow.table({"key": ["a"], "embedding": [[1.0]]}), tmp_path / "v.parquet")
    for name in ("v.npz", "v.parquet"):
        with pytest.raises(InvalidArgumentError, match="is no table of vectors"):
            EmbeddingTable.load(tmp_path / name)


def test_another_suffix_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"\.npz or a \.parquet file"):
        table(1).save(tmp_path / "v.csv")


@SUFFIXES
def test_an_interrupted_run_goes_on(tmp_path: Path, suffix: str) -> None:
    whole, path = table(10_000), tmp_path / f"v{suffix}"

    class StopError(Exception):
        pass

    def run(stop: int) -> int:
        written = 0
        with TableWriter(path, whole.fingerprint, 8) as writer:
            for key, vector in zip(whole.keys, whole.embeddings, strict=True):
                if key in writer.done:
                    continue
                if written == stop:
                    raise StopError
                writer.add(key, vector)
                written += 1
        return written

    for _ in range(2):
        with pytest.raises(StopError):
            run(4500)
        assert not path.exists()
    assert run(10_000) == 1000
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    loaded = EmbeddingTable.load(path)
    assert list(loaded.keys) == list(whole.keys)
    np.testing.assert_array_equal(loaded.embeddings, whole.embeddings)
    assert run(10_000) == 0
    assert len(EmbeddingTable.load(path)) == 10_000


def test_parts_that_were_joined_but_not_removed_are_not_joined_twice(tmp_path: Path) -> None:
    path, whole = tmp_path / "v.npz", table(5)
    whole.save(path)
    parts = tmp_path / "v.npz.parts"
    parts.mkdir()
    whole.save(parts / "000000.npz")
    with TableWriter(path, whole.fingerprint, 8):
        pass
    assert list(EmbeddingTable.load(path).keys) == list(whole.keys)
    assert not parts.exists()


def test_a_killed_process_loses_no_finished_part(tmp_path: Path) -> None:
    code = f"""
import os, numpy as np
from pathlib import Path
from tuwen._table_writer import TableWriter
with TableWriter(Path({str(tmp_path / "v.npz")!r}), "a", 4) as writer:
    for number in range(5000):
        writer.add(str(number), np.zeros(4, dtype=np.float32))
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert len(TableWriter(tmp_path / "v.npz", "a", 4).done) == 4096


def test_without_pyarrow_the_remedy_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None; import numpy as np; from tuwen import EmbeddingTable\n"
        f"EmbeddingTable([], np.zeros((0, 4), np.float32), 'a').save({str(tmp_path / 'v.parquet')!r})"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 'tuwen[parquet]'" in finished.stderr
