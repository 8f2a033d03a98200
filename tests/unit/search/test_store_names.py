"""Two paths of one Milvus Lite file, such as a link and its target, mean the same store."""

from __future__ import annotations

from pathlib import Path

from tuwen_search.store import MilvusStore


def test_a_link_to_the_file_opens_the_same_store(tmp_path: Path) -> None:
    file, link = tmp_path / "s.db", tmp_path / "link.db"
    first = MilvusStore(str(file))
    link.symlink_to(file)
    second = MilvusStore(str(link))
    try:
        assert second.url == first.url == str(file)
        assert second.names() == []
    finally:
        second.close()
    assert first.names() == []
    first.close()
