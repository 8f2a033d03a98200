"""The ``__all__`` of every public module: it exists, has no duplicates, and lists only existing names."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

PACKAGES = (
    "tuwen",
    "tuwen_build",
    "tuwen_cli",
    "tuwen_edge",
    "tuwen_files",
    "tuwen_integrations",
    "tuwen_lab",
    "tuwen_repository",
    "tuwen_search",
    "tuwen_server",
)
# Each of these modules imports a framework, which is installed in an environment of its own.
FRAMEWORKS = tuple(f"tuwen_integrations.{name}" for name in ("haystack", "langchain", "llama_index"))
MODULES = [
    name
    for package in map(importlib.import_module, PACKAGES)
    for _, name, _ in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    if not name.startswith(("tuwen_server.backends", "tuwen_build.model_repository", *FRAMEWORKS))
]


@pytest.mark.parametrize("name", [*PACKAGES, *MODULES])
def test_all_lists_only_existing_names_without_duplicates(name: str) -> None:
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for exported in module.__all__:
        assert hasattr(module, exported)
