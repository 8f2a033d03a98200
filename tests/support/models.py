"""The modules of Triton's Python models, imported from the folder ``model_repository`` of the project."""

from __future__ import annotations

from types import ModuleType

from tuwen_build.export.configs import templates
from tuwen_build.verification.template_modules import staged_module

__all__ = ["model_module"]


def model_module(model: str, name: str) -> ModuleType:
    """Return the module of this name that lies beside the ``model.py`` of a Python model."""
    with staged_module(templates() / model / "1", name) as module:
        return module
