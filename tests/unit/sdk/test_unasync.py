"""The program that writes the synchronous modules from the asynchronous modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.paths import ROOT


@pytest.fixture
def unasync() -> ModuleType:
    """Return the program ``client/unasync.py`` as a module."""
    spec = importlib.util.spec_from_file_location("unasync", ROOT / "client" / "unasync.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_synchronous_modules_are_up_to_date(unasync: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["unasync.py", "--check"])
    unasync.main()


def test_a_module_that_was_changed_by_hand_is_named_and_written_again(
    unasync: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [*unasync.MODULES, *unasync.MODULES.values()]:
        (tmp_path / name).write_bytes((unasync.PACKAGE / name).read_bytes())
    changed = tmp_path / "_pipeline.py"
    expected = changed.read_text(encoding="utf-8")
    changed.write_text(expected.replace("popleft", "pop"), encoding="utf-8")
    monkeypatch.setattr(unasync, "PACKAGE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["unasync.py", "--check"])
    with pytest.raises(SystemExit, match=r"not up to date: _pipeline.py; run: python client/unasync.py"):
        unasync.main()
    monkeypatch.setattr(sys, "argv", ["unasync.py"])
    unasync.main()
    assert changed.read_text(encoding="utf-8") == expected


def test_a_missing_sentence_is_named(unasync: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unasync, "SENTENCES", {"_async_client.py": {"nobody wrote this": ""}})
    with pytest.raises(ValueError, match="expected this text once, found it 0 times: nobody wrote this"):
        unasync.synchronous("_async_client.py")


@pytest.mark.parametrize("name", ["_client.py", "_pipeline.py"])
def test_the_synchronous_modules_contain_no_asynchronous_words(unasync: ModuleType, name: str) -> None:
    words = set((unasync.PACKAGE / name).read_text(encoding="utf-8").partition('"""')[2].split())
    assert not words & {"async", "await", "asyncio"}
