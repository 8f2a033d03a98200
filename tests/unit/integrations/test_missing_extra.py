"""Importing an integration without its framework raises an error that names the extra."""

from __future__ import annotations

import importlib
import sys

import pytest

from tuwen import MissingExtraError


@pytest.mark.parametrize(
    ("module", "framework", "name", "extra"),
    [
        ("langchain", "langchain_core", "LangChain", "langchain"),
        ("llama_index", "llama_index", "LlamaIndex", "llama-index"),
        ("haystack", "haystack", "Haystack", "haystack"),
    ],
)
def test_names_the_extra(monkeypatch: pytest.MonkeyPatch, module: str, framework: str, name: str, extra: str) -> None:
    for loaded in [other for other in sys.modules if other.partition(".")[0] == framework]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, framework, None)  # Python then behaves as if the framework were not installed
    with pytest.raises(MissingExtraError, match=rf"^{name} needs an extra .+: pip install 'tuwen\[{extra}\]'$"):
        importlib.import_module(f"tuwen_integrations.{module}")
