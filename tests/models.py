"""Imports the pure modules of the Python models, which are no package outside Triton."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["model_module"]

_REPOSITORY = Path(__file__).parents[1] / "model_repository"


def model_module(model: str, name: str) -> ModuleType:
    """A module beside a Python model's ``model.py``."""
    package = f"tuwen_model_{model}"
    if package not in sys.modules:
        parent = ModuleType(package)
        parent.__path__ = [str(_REPOSITORY / model / "1")]
        sys.modules[package] = parent
    return importlib.import_module(f"{package}.{name}")
