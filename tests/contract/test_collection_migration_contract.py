"""The migration of a collection to another model: on Milvus Lite and (in `make test-all`) on a Milvus server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.collections import found, write
from tuwen import Client, EmbeddingSpaceError
from tuwen.testing import FakeTransport
from tuwen_search import Collection, Query
from tuwen_search.generations import chosen_generations, drop_generations, generations_of, rename_collection
from tuwen_search.migration import migrate
from tuwen_search.store import MilvusStore

OLD, NEW = "a" * 32, "b" * 32


@pytest.fixture
def empty(store: MilvusStore) -> MilvusStore:
    for place in store.places():
        store.drop(place)
    return store


def test_both_models_search_while_and_after_a_collection_is_migrated(empty: MilvusStore, tmp_path: Path) -> None:
    write(tmp_path, a=1, b=2, c=3)
    with (
        Client(transport=FakeTransport(embedding_dimension=16, fingerprint=OLD)) as before,
        Client(transport=FakeTransport(embedding_dimension=24, fingerprint=NEW)) as after,
    ):
        old = Collection.open("pictures", before, store=empty, create=True)
        old.add(tmp_path)
        (tmp_path / "a.png").rename(tmp_path / "kept")
        assert not migrate(empty, "pictures", after).switched
        assert len(found(old.search("猫"))) == 3
        with pytest.raises(EmbeddingSpaceError):
            Collection.open("pictures", after, store=empty)
        (tmp_path / "kept").rename(tmp_path / "a.png")
        report = migrate(empty, "pictures", after)
        assert (report.embedded, report.pictures, report.switched, report.checked) == (1, 3, True, 3)
        assert [one.complete for one in generations_of(empty, "pictures")] == [True, True]
        assert empty.names() == ["pictures"]
        new = Collection.open("pictures", after, store=empty)
        assert found(new.search(Query(image=tmp_path / "b.png"), limit=1)) == ["b.png"]
        assert len(found(old.search("猫"))) == 3
        assert new.add(tmp_path).unchanged == 3
        rename_collection(empty, "pictures", "albums")
        drop_generations(empty, chosen_generations(empty, "albums", OLD))
        assert len(found(Collection.open("albums", after, store=empty).search("猫"))) == 3
        with pytest.raises(EmbeddingSpaceError):
            Collection.open("albums", before, store=empty)
