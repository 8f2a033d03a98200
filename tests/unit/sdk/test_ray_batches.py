"""The embedding of one batch of Ray Data, tested without Ray: the columns of the input and of the output."""

from __future__ import annotations

import pytest

from tuwen import Client
from tuwen.testing import FakeTransport
from tuwen_files.ray_data import Embedder


def test_embedding_an_embedded_batch_again_repeats_no_column() -> None:
    embed = Embedder("localhost:1", column="text", kind="text", fingerprint="0" * 32)
    embed._clip = Client(transport=FakeTransport(embedding_dimension=8))
    arrow = pytest.importorskip("pyarrow")
    first = embed(arrow.table({"text": ["猫", None, "狗"], "id": [1, 2, 3]}))
    again = embed(first)
    assert again.column_names == first.column_names == ["text", "id", "embedding", "error", "fingerprint"]
    assert again.column("error").to_pylist() == [None, "missing", None]
    assert again.equals(first)
