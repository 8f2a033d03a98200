"""Bulk embedding on many machines: a class for Ray Data's `map_batches`, and a program that uses it.

::

    python -m tuwen_files.ray_data s3://shop/photos/ s3://shop/vectors/ --url dns:///clip.search.svc:8001 --workers 16

Ray reads and writes the files, restarts failed workers and reassigns their shards. All workers share one service. This
module needs the extra ``ray``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from tuwen import Client, InvalidArgumentError, MissingExtraError, TuwenError

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Embedder", "main"]

_TIMEOUT = 300.0
_MISSING = "missing"
_COLUMNS = ("embedding", "error", "fingerprint")


class Embedder:
    """A callable that embeds one column of each batch. Each Ray actor has one such object, with its own connection.

    A batch gets three columns. ``embedding`` holds the vector, float32 (D,), or null for a refused item. ``error``
    holds the reason of a refusal, or null for an embedded item. ``fingerprint`` names the embedding space. Existing
    columns with these names are replaced. If the items are images, their column is dropped.

    Args:
        url: the address of the service.
        column: the name of the column. It holds texts, encoded images as bytes, or structs with ``bytes`` as in
            Hugging Face's datasets.
        kind: the kind of the items, ``image`` or ``text``.
        fingerprint: the fingerprint of the required embedding space; None: the space of the first response. If the
            service gets another model during the job, the job ends with an error, so that spaces are never mixed.
        timeout: seconds for each request, including retries while the service restarts.

    Raises (when called):
        EmbeddingSpaceError: the service's embedding space has another fingerprint than `fingerprint`.
        ServerError: the service or the connection failed for longer than `timeout`.
    """

    def __init__(
        self,
        url: str,
        *,
        column: str,
        fingerprint: str,
        kind: Literal["image", "text"] = "image",
        timeout: float = _TIMEOUT,
    ) -> None:
        self._column, self._kind, self._fingerprint = column, kind, fingerprint
        self._clip = Client(url, timeout=timeout, expected_fingerprint=fingerprint)

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """Return a batch with the columns ``embedding``, ``error`` and ``fingerprint``."""
        import pyarrow as arrow  # noqa: PLC0415 - an extra

        vectors: list[Any] = [None] * table.num_rows
        errors: list[str | None] = [_MISSING] * table.num_rows
        items = self._items(table.column(self._column).to_pylist())
        stream = self._clip.stream_images(items) if self._kind == "image" else self._clip.stream_texts(items)
        for outcome in stream:
            row = int(str(outcome.key))
            vectors[row], errors[row] = outcome.embedding, outcome.error.reason if outcome.error else None
        replaced = {*_COLUMNS, self._column} if self._kind == "image" else set(_COLUMNS)
        kept = table.drop_columns([name for name in table.column_names if name in replaced])
        # Lists of a variable size: Arrow 25 writes lists of a fixed size with nulls to Parquet, but cannot read them.
        embeddings = arrow.array(vectors, arrow.list_(arrow.float32()))
        names = arrow.array([self._fingerprint] * table.num_rows, arrow.string())
        return (
            kept.append_column("embedding", embeddings)
            .append_column("error", arrow.array(errors, arrow.string()))
            .append_column("fingerprint", names)
        )

    @staticmethod
    def _items(values: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for row, value in enumerate(values):
            item = value.get("bytes") if isinstance(value, dict) else value
            if item is not None:
                yield row, item


def main(arguments: Sequence[str] | None = None) -> None:
    """Read a folder of Parquet files or images, and write a folder of Parquet files with vectors."""
    options = _parser().parse_args(arguments)
    try:
        import ray  # noqa: PLC0415 - an extra
        from ray.data import ActorPoolStrategy  # noqa: PLC0415
        from ray.data.aggregate import Count  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(f"Ray needs an extra ({error}): pip install 'tuwen[ray]'") from error
    with Client(options.url, timeout=_TIMEOUT) as clip:
        card = clip.model_card()
    if options.files:
        rows, column = ray.data.read_binary_files(options.source, include_paths=True), "bytes"
    else:
        rows, column = ray.data.read_parquet(options.source), options.column
    if column not in rows.columns():
        raise InvalidArgumentError(f"--column: expected one of {', '.join(rows.columns())}, got {column}")
    told = {"url": options.url, "column": column, "kind": options.kind, "fingerprint": card.fingerprint}
    rows.map_batches(
        Embedder,
        fn_constructor_kwargs=told,
        batch_format="pyarrow",
        batch_size=options.batch_size,
        compute=ActorPoolStrategy(size=options.workers),
        num_cpus=options.cpus,
    ).write_parquet(options.output)
    written = ray.data.read_parquet(options.output, columns=["error"])
    count, refused = written.count(), written.aggregate(Count(on="error", ignore_nulls=True, alias_name="refused"))
    said = f"{count - refused['refused']:,} embedded by {card.checkpoint}, {refused['refused']:,} refused"
    print(f"{said}; {options.output}")  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tuwen_files.ray_data", description=main.__doc__)
    parser.add_argument("source", help="The folder, file or bucket with Parquet files or images.")
    parser.add_argument("output", help="The folder or bucket for the Parquet files with vectors.")
    parser.add_argument("--files", action="store_true", help="Read image files instead of Parquet files.")
    parser.add_argument(
        "--column", default="image", help="Name of the Parquet column with images or texts (default: image)."
    )
    parser.add_argument(
        "--kind", choices=("image", "text"), default="image", help="Kind of the items in the column (default: image)."
    )
    parser.add_argument(
        "--url",
        default="localhost:8001",
        help="host:port of the server's gRPC endpoint; dns:///name:port uses all addresses of a name.",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        help="Number of workers, each with its own connection to the service (default: 2).",
    )
    parser.add_argument(
        "--cpus",
        type=float,
        default=0.25,
        help="Number of CPUs that Ray reserves for each worker. A worker mostly waits (default: 0.25).",
    )
    parser.add_argument("--batch-size", type=int, default=256, help="Number of rows in one batch (default: 256).")
    return parser


def _run() -> None:
    try:
        main()
    except TuwenError as error:
        sys.exit(f"tuwen_files.ray_data: {error}")


if __name__ == "__main__":
    _run()
