"""Features whose extra is not installed: the error names the extra to install."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tuwen_edge
import tuwen_edge.traces
from tuwen import HttpFetcher, MissingExtraError
from tuwen.connection import OpenTelemetry
from tuwen_files import ray_data
from tuwen_search.archives import pictures_of_archive
from tuwen_search.store import MilvusStore
from tuwen_search.tables import pictures_of_table
from tuwen_search.web import WebOptions, serve


@pytest.mark.parametrize(
    ("library", "call", "extra"),
    [
        ("opentelemetry", OpenTelemetry, "tracing"),
        ("opentelemetry", tuwen_edge.traces.Traces, "tracing"),
        ("tuwen_edge.app", lambda: tuwen_edge.create_app, "edge"),
        ("pymilvus", lambda: MilvusStore("x.db"), "search"),
        ("uvicorn", lambda: serve(WebOptions("shop")), "web"),
        ("ray", lambda: ray_data.main(["a", "b"]), "ray"),
    ],
    ids=["tracing", "tracing of the edge", "edge", "search", "page", "Ray"],
)
def test_names_the_extra_to_install(
    library: str, call: Callable[[], object], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'tuwen\[{extra}\]'"):
        call()


def test_tables_and_archives_name_the_extra_of_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    archive = tmp_path / "a.tar.zst"
    archive.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(40))
    for pictures in (pictures_of_table(tmp_path / "a.parquet"), pictures_of_archive(archive)):
        with pytest.raises(MissingExtraError, match=r"pip install 'tuwen\[parquet\]'"):
            next(iter(pictures))


def test_the_fetcher_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tuwen\[fetch\]'"):
        HttpFetcher(allow=["img.example.com"])
