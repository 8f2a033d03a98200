"""The pure modules of the Python models, which are no package outside Triton."""

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
    """A file of a version folder as a module, in a package with what it imports beside itself.

    Some modules import others when asked, so what is to be loaded is loaded inside the block: as long as it lasts,
    imports find their package, and leave no bytecode in the folder.
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
