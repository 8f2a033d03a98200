"""Readers and writers of tables of vectors as NumPy's ``.npz`` and as Apache Parquet."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuwen import InvalidArgumentError, MissingExtraError
from tuwen_files.replacing import replacing

__all__ = ["Rows", "check_key", "check_suffix", "pieces", "read", "write"]


class Rows(NamedTuple):
    """Some rows of a table.

    Attributes:
        keys: the n keys, such as paths or texts.
        embeddings: the n vectors, float32 (n, D).
        versions: the n versions of the files that the keys name, as `tuwen_files.file_versions` defines them. The
            version of a row without a file is empty.
    """

    keys: Sequence[str]
    embeddings: NDArray[np.float32]
    versions: Sequence[str]


_PARQUET = Path("vectors.parquet")
_FINGERPRINT = b"tuwen.fingerprint"


def check_suffix(path: Path) -> None:
    """Check that a table can be written to a path with this suffix. Call this before the work begins.

    Raises:
        InvalidArgumentError: the suffix is neither ``.npz`` nor ``.parquet``.
        MissingExtraError: the suffix is ``.parquet``, and pyarrow is not installed.
    """
    if path.suffix == ".parquet":
        _pyarrow()
    elif path.suffix != ".npz":
        raise InvalidArgumentError(f"expected a .npz or .parquet file for the vectors, got '{path}'")


def check_key(path: Path, key: str) -> None:
    """Check that a file can hold a key. Parquet cannot hold a file name that is not UTF-8.

    Raises:
        InvalidArgumentError: the file cannot hold the key.
    """
    if path.suffix == ".parquet":
        try:
            key.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidArgumentError(
                f"Parquet cannot hold the key {key!r}, which is not UTF-8; rename the file, or write a .npz file"
            ) from error


def write(path: Path, fingerprint: str, dimension: int, rows: Iterable[Rows]) -> None:
    """Write a table to a file. If an error occurs, an existing file stays unchanged.

    Args:
        path: the ``.npz`` or ``.parquet`` file.
        fingerprint: the fingerprint of the vectors' embedding space.
        dimension: the dimension of the vectors.
        rows: the rows in pieces. Parquet needs memory for one piece, and ``.npz`` for all rows.

    Raises:
        InvalidArgumentError: the file has another suffix or cannot be written, or Parquet cannot hold a key.
        MissingExtraError: the suffix is ``.parquet``, and pyarrow is not installed.
    """
    check_suffix(path)
    with replacing(path) as scratch:
        if path.suffix == ".parquet":
            _write_parquet(scratch, fingerprint, dimension, rows)
        else:
            _write_npz(scratch, fingerprint, dimension, rows)


def read(path: Path) -> tuple[Sequence[str], NDArray[np.float32], str]:
    """Return the keys, the embeddings and the fingerprint of the table in a file.

    Raises:
        InvalidArgumentError: the file is missing or is not a table.
    """
    fingerprint, rows = pieces(path)
    keys: list[str] = []
    embeddings: list[NDArray[np.float32]] = []
    for names, vectors, _ in rows:
        keys += names
        embeddings.append(vectors)
    return keys, embeddings[0] if len(embeddings) == 1 else np.concatenate(embeddings), fingerprint


def pieces(path: Path) -> tuple[str, Iterator[Rows]]:
    """Return the fingerprint of the table in a file, and an iterator over its rows in one or more pieces.

    Raises:
        InvalidArgumentError: the file is missing or is not a table.
    """
    check_suffix(path)
    try:
        return _read_parquet(path) if path.suffix == ".parquet" else _read_npz(path)
    except OSError as error:
        raise InvalidArgumentError(f"cannot read '{path}': {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidArgumentError(
            f"cannot read '{path}': expected a table of vectors from `tuwen embed` ({error})"
        ) from error


@contextmanager
def _damage(path: Path, *kinds: type[Exception]) -> Iterator[None]:
    """Provide a context in which the error of a damaged file becomes an `InvalidArgumentError`.

    Args:
        path: the file, for the message.
        kinds: the classes of the errors that mean that the file is damaged.
    """
    try:
        yield
    except kinds as error:
        reason = " ".join(str(error).split())
        raise InvalidArgumentError(f"cannot read '{path}': the file is damaged ({reason})") from error


def _write_npz(path: Path, fingerprint: str, dimension: int, rows: Iterable[Rows]) -> None:
    keys: list[str] = []
    versions: list[str] = []
    embeddings = [np.empty((0, dimension), dtype=np.float32)]
    for names, vectors, known in rows:
        keys += names
        versions += known
        embeddings.append(vectors.astype(np.float32, copy=False))
    with path.open("wb") as file:  # np.savez would add .npz to the name of the scratch file
        np.savez(
            file,
            **_texts("key", keys),
            **_texts("version", versions),
            embeddings=np.concatenate(embeddings),
            fingerprint=np.array(fingerprint),
        )


def _texts(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return texts of any length as two arrays: the concatenated bytes in UTF-8, and where each text ends."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    return {
        f"{name}_bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        f"{name}_ends": np.cumsum([len(text) for text in encoded], dtype=np.int64),
    }


def _read_npz(path: Path) -> tuple[str, Iterator[Rows]]:
    with path.open("rb") as raw:  # np.load does not close a file that the caller opened
        file = np.load(raw, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("expected several arrays, got a single array")
        keys = file["keys"].tolist() if "keys" in file else _read_texts(file, "key")
        versions = _read_texts(file, "version") if "version_ends" in file else [""] * len(keys)
        embeddings: NDArray[np.float32] = file["embeddings"].astype(np.float32, copy=False)
        fingerprint = str(file["fingerprint"])
    return fingerprint, iter([Rows(keys, embeddings, versions)])


def _read_texts(file: Any, name: str) -> list[str]:
    """Return the texts in the two arrays that `_texts` made, such as ``key_bytes`` and ``key_ends``."""
    joined, ends = file[f"{name}_bytes"].tobytes(), file[f"{name}_ends"].tolist()
    if [0, *ends] != sorted([0, *ends]) or (ends[-1] if ends else 0) != len(joined):
        raise ValueError(f"expected ascending ends up to {len(joined)} in the array {name}_ends, got {ends[:10]}")
    return [joined[start:end].decode("utf-8", "surrogatepass") for start, end in zip([0, *ends], ends, strict=False)]


def _write_parquet(path: Path, fingerprint: str, dimension: int, rows: Iterable[Rows]) -> None:
    pyarrow, parquet = _pyarrow()
    fields = [
        ("key", pyarrow.string()),
        ("embedding", pyarrow.list_(pyarrow.float32(), dimension)),
        ("version", pyarrow.string()),
    ]
    schema = pyarrow.schema(fields, metadata={_FINGERPRINT: fingerprint.encode()})
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for names, vectors, versions in rows:
            for name in names:
                check_key(_PARQUET, name)
            flat = pyarrow.array(vectors.astype(np.float32, copy=False).reshape(-1))
            column = pyarrow.FixedSizeListArray.from_arrays(flat, dimension)
            columns = [pyarrow.array(names, pyarrow.string()), column, pyarrow.array(versions, pyarrow.string())]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))


def _read_parquet(path: Path) -> tuple[str, Iterator[Rows]]:
    pyarrow, parquet = _pyarrow()
    path.stat()  # for a missing file, the error of stat has a shorter reason than pyarrow's
    try:
        file = parquet.ParquetFile(path)
        schema = file.schema_arrow
        fingerprint = (schema.metadata or {})[_FINGERPRINT].decode()
        dimension = int(schema.field("embedding").type.list_size)
        wanted = [name for name in ("key", "embedding", "version") if name in schema.names]
    except (pyarrow.ArrowException, AttributeError) as error:
        raise ValueError(error) from error

    def rows() -> Iterator[Rows]:
        yield Rows([], np.empty((0, dimension), dtype=np.float32), [])
        with file, _damage(path, OSError, ValueError, pyarrow.ArrowException):
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=wanted)
                vectors = table.column("embedding").combine_chunks().flatten().to_numpy(zero_copy_only=False)
                keys = table.column("key").to_pylist()
                versions = table.column("version").to_pylist() if "version" in wanted else [""] * len(keys)
                yield Rows(keys, vectors.reshape(-1, dimension), versions)

    return fingerprint, rows()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: PLC0415 - an extra
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(f"Parquet needs an extra ({error}): pip install 'tuwen[parquet]'") from error
    return pyarrow, pyarrow.parquet
