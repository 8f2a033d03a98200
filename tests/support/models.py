"""Imports the pure modules of the Python models from the source of the model repository."""

from __future__ import annotations

from types import ModuleType

from tuwen_build.render import templates
from tuwen_build.staged import staged_module

__all__ = ["model_module"]


def model_module(model: str, name: str) -> ModuleType:
    """A module beside a Python model's ``model.py``."""
    with staged_module(templates() / model / "1", name) as module:
        return module
