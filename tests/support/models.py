"""The modules of the Python models, imported from the source of the model repository."""

from __future__ import annotations

from types import ModuleType

from tuwen_build.export.configs import templates
from tuwen_build.verification.template_modules import staged_module

__all__ = ["model_module"]


def model_module(model: str, name: str) -> ModuleType:
    """Return a module that lies beside the ``model.py`` of a Python model."""
    with staged_module(templates() / model / "1", name) as module:
        return module
