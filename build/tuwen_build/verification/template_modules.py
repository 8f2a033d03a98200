"""Importing the modules of the Python models, which do not form a package outside Triton."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

__all__ = ["staged_module"]

_PACKAGE = "tuwen_staged"


@contextmanager
def staged_module(folder: Path, name: str) -> Iterator[ModuleType]:
    """Provide a file of a version folder as a module, in a package with the modules that it imports.

    Some modules import other modules only when a function runs, so call their functions inside the block. No bytecode
    is written to the folder.
    """
    package = ModuleType(_PACKAGE)
    package.__path__ = [str(folder)]
    sys.modules[_PACKAGE] = package
    writes_no_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield importlib.import_module(f"{_PACKAGE}.{name}")
    finally:
        sys.dont_write_bytecode = writes_no_bytecode
        for imported in [key for key in sys.modules if key.partition(".")[0] == _PACKAGE]:
            del sys.modules[imported]
