"""Tables of saved vectors: files are complete, interrupted runs are resumed, and embedding spaces are never mixed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tuwen import EmbeddingSpaceError, InvalidArgumentError
from tuwen_files import EmbeddingTable, _table_files
from tuwen_files._table_writer import TableWriter

SUFFIXES = pytest.mark.parametrize("suffix", [".npz", ".parquet"])


def vectors(count: int, dimension: int = 8) -> NDArray[np.float32]:
    made = np.random.default_rng(0).standard_normal((count, dimension)).astype(np.float32)
    unit: NDArray[np.float32] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


def table(count: int, fingerprint: str = "a" * 32) -> EmbeddingTable:
    return EmbeddingTable([f"照片/{number}.jpg" for number in range(count)], vectors(count), fingerprint)


@SUFFIXES
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_a_loaded_table_equals_the_saved_table(tmp_path: Path, suffix: str, count: int) -> None:
    saved = table(count)
    saved.save(tmp_path / f"v{suffix}")
    loaded = EmbeddingTable.load(tmp_path / f"v{suffix}", expected_fingerprint="a" * 32)
    assert list(loaded.keys) == list(saved.keys)
    assert loaded.fingerprint == saved.fingerprint
    assert loaded.embeddings.dtype == np.float32
    np.testing.assert_array_equal(loaded.embeddings, saved.embeddings)
    assert len(list(tmp_path.iterdir())) == 1


@SUFFIXES
def test_tables_of_two_spaces_cannot_be_combined(tmp_path: Path, suffix: str) -> None:
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


def test_rejects_a_table_of_another_dimension() -> None:
    one, other = table(3), EmbeddingTable(["x"], vectors(1, 4), "a" * 32)
    for mix in (one.joined, one.cosine):
        with pytest.raises(InvalidArgumentError, match="expected vectors of 8 dimensions in the other table, got 4"):
            mix(other)


def test_tables_of_one_space_can_be_combined() -> None:
    one, other = table(3), table(2)
    assert len(one.joined(other)) == 5
    np.testing.assert_allclose(one.cosine(other), one.embeddings @ other.embeddings.T)


@pytest.mark.parametrize(
    ("keys", "shape", "fingerprint"), [(["a"], (2, 4), "x"), (["a"], (4,), "x"), (["a"], (1, 4), "")]
)
def test_a_table_with_inconsistent_values_is_refused(keys: list[str], shape: tuple[int, ...], fingerprint: str) -> None:
    with pytest.raises(InvalidArgumentError):
        EmbeddingTable(keys, np.zeros(shape, dtype=np.float32), fingerprint)


@SUFFIXES
@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY", b"no table", b"PK\x03\x04broken", b"PAR1brokenPAR1"])
def test_a_missing_or_broken_file_is_refused(tmp_path: Path, suffix: str, content: bytes | None) -> None:
    path = tmp_path / f"v{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=path.name):
        EmbeddingTable.load(path)


def test_a_table_of_another_program_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    np.savez(tmp_path / "v.npz", embeddings=vectors(3))
    parquet.write_table(pyarrow.table({"key": ["a"], "embedding": [[1.0]]}), tmp_path / "v.parquet")
    for name in ("v.npz", "v.parquet"):
        with pytest.raises(InvalidArgumentError, match="expected a table of vectors"):
            EmbeddingTable.load(tmp_path / name)


def test_another_suffix_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"a \.npz or \.parquet file"):
        table(1).save(tmp_path / "v.csv")


@SUFFIXES
def test_an_interrupted_run_is_resumed(tmp_path: Path, suffix: str) -> None:
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
from tuwen_files._table_writer import TableWriter
with TableWriter(Path({str(tmp_path / "v.npz")!r}), "a", 4) as writer:
    for number in range(5000):
        writer.add(str(number), np.zeros(4, dtype=np.float32))
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert len(TableWriter(tmp_path / "v.npz", "a", 4).done) == 4096


def test_the_error_without_pyarrow_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None; import numpy as np; from tuwen_files import EmbeddingTable\n"
        f"EmbeddingTable([], np.zeros((0, 4), np.float32), 'a').save({str(tmp_path / 'v.parquet')!r})"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 'tuwen[parquet]'" in finished.stderr


KEYS = ["", "nul\0", "nul\0\0", "猫" * 3000, b"\xff.jpg".decode("utf-8", "surrogateescape"), "a"]


def test_keys_of_any_length_and_any_bytes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    EmbeddingTable(KEYS, vectors(len(KEYS)), "a").save(path)
    assert list(EmbeddingTable.load(path).keys) == KEYS


def test_one_long_key_does_not_lengthen_the_others(tmp_path: Path) -> None:
    keys = ["x" * 100_000, *map(str, range(1000))]
    EmbeddingTable(keys, vectors(len(keys)), "a").save(tmp_path / "v.npz")
    assert (tmp_path / "v.npz").stat().st_size < 200_000


def test_files_with_keys_of_a_fixed_width_are_still_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", keys=np.array(["猫", "b"]), embeddings=vectors(2), fingerprint=np.array("a"))
    assert list(EmbeddingTable.load(tmp_path / "v.npz").keys) == ["猫", "b"]


@pytest.mark.parametrize("ends", [[1], [2, 1, 3], [-1, 3], [1, 9]])
def test_ends_that_do_not_fit_the_keys_are_refused(tmp_path: Path, ends: list[int]) -> None:
    arrays = {"key_bytes": np.frombuffer(b"abc", np.uint8), "key_ends": np.array(ends)}
    np.savez(tmp_path / "v.npz", **arrays, embeddings=vectors(len(ends)), fingerprint=np.array("a"))
    with pytest.raises(InvalidArgumentError, match="expected ascending ends up to 3 in the array key_ends"):
        EmbeddingTable.load(tmp_path / "v.npz")


def test_a_key_that_parquet_cannot_hold_is_refused_at_once(tmp_path: Path) -> None:
    key = KEYS[4]
    with TableWriter(tmp_path / "v.parquet", "a", 8) as writer:
        writer.add("good", vectors(1)[0])
        with pytest.raises(
            InvalidArgumentError, match=r"Parquet cannot hold the key .*, which is not UTF-8.*write a \.npz file"
        ):
            writer.add(key, vectors(1)[0])
    assert list(EmbeddingTable.load(tmp_path / "v.parquet").keys) == ["good"]
    with pytest.raises(InvalidArgumentError, match="which is not UTF-8"):
        EmbeddingTable([key], vectors(1), "a").save(tmp_path / "v.parquet")


@SUFFIXES
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_vectors_are_float32_in_memory_and_in_every_file(tmp_path: Path, suffix: str, dtype: Any) -> None:
    made = EmbeddingTable(["a"], vectors(1).astype(dtype), "a")
    assert made.embeddings.dtype == np.float32
    made.save(tmp_path / f"v{suffix}")
    assert EmbeddingTable.load(tmp_path / f"v{suffix}").embeddings.dtype == np.float32


def test_damaged_rows_of_parquet_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    table(5000).save(path)
    data = bytearray(path.read_bytes())
    data[5000:9000] = b"\xff" * 4000
    path.write_bytes(data)
    with pytest.raises(InvalidArgumentError, match="is damaged"):
        EmbeddingTable.load(path)


@SUFFIXES
def test_a_second_writer_of_one_output_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v{suffix}"
    with TableWriter(path, "a", 8) as first:
        with pytest.raises(InvalidArgumentError, match=f"another process is writing 'v{suffix}'"):
            TableWriter(path, "a", 8)
        first.add("first", vectors(1)[0])
    with TableWriter(path, "a", 8) as second:
        second.add("second", vectors(1)[0])
    assert list(EmbeddingTable.load(path).keys) == ["first", "second"]


def test_a_writer_that_fails_or_is_deleted_releases_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    table(1, "b" * 32).save(path)
    with pytest.raises(EmbeddingSpaceError):
        TableWriter(path, "a" * 32, 8)
    assert [file.name for file in tmp_path.iterdir()] == ["v.npz"]
    with pytest.raises(RuntimeError), TableWriter(path, "b" * 32, 8):
        raise RuntimeError
    writer = TableWriter(path, "b" * 32, 8)
    del writer
    with TableWriter(path, "b" * 32, 8) as last:
        assert last.done == set(table(1).keys)


@SUFFIXES
def test_concurrent_writers_replace_a_file_completely(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, inner, outer = tmp_path / f"v{suffix}", table(3), table(5)
    name = "_write_npz" if suffix == ".npz" else "_write_parquet"
    original = getattr(_table_files, name)

    def overlapped(scratch: Path, fingerprint: str, dimension: int, rows: Any) -> None:
        monkeypatch.setattr(_table_files, name, original)
        original(scratch, fingerprint, dimension, rows)
        inner.save(path)

    monkeypatch.setattr(_table_files, name, overlapped)
    outer.save(path)
    assert len(EmbeddingTable.load(path)) == 5
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_scratch_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".v.npz.123.writing").write_bytes(b"half a file")
    (tmp_path / ".w.npz.123.writing").write_bytes(b"of another output")
    table(1).save(tmp_path / "v.npz")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".w.npz.123.writing", "v.npz"]


@SUFFIXES
def test_a_file_is_synced_before_it_replaces_the_earlier_file(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    replace, sync = Path.replace, os.fsync
    monkeypatch.setattr(Path, "replace", lambda *paths: (events.append("replace"), replace(*paths)))
    monkeypatch.setattr(os, "fsync", lambda descriptor: (events.append("fsync"), sync(descriptor)))
    table(1).save(tmp_path / f"v{suffix}")
    assert events == ["fsync", "replace", "fsync"]


def test_a_file_of_other_precision_is_read_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "double.npz"
    np.savez(path, keys=np.array(["a"]), embeddings=np.eye(1, 4), fingerprint=np.array("f"))
    assert EmbeddingTable.load(path).embeddings.dtype == np.float32
