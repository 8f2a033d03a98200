"""The project files that a module depends on, found by following its imports without running them."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support.paths import ROOT

__all__ = ["SOURCE_ROOTS", "imported_files", "sources_hash", "versions"]

SOURCE_ROOTS = tuple(ROOT / name for name in ("client", "build", "loadtest", "."))
# A build reads these folders as data, so no import leads to them.
_DATA = {
    "tuwen_build.render": [ROOT / "model_repository"],
    "tuwen_build.samples": [ROOT / "build" / "tuwen_build" / "samples"],
}
_LIBRARIES = ("numpy", "pillow", "safetensors", "tokenizers", "torch", "transformers")


def imported_files(module: str, roots: Iterable[Path] = SOURCE_ROOTS) -> set[Path]:
    """Return the project files that importing `module` reads, and the data folders that these files read.

    Imports inside functions count as well. Modules outside `roots` are ignored: see `versions`.
    """
    roots = tuple(roots)
    files: set[Path] = set()
    modules, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name in modules:
            continue
        modules.add(name)
        path = _file_of(name, roots)
        if path is None:
            continue
        files.add(path)
        for folder in _DATA.get(name, []):
            files |= {file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts}
        waiting += _imports(path, name)
    return files


def sources_hash(files: Iterable[Path]) -> str:
    """Return a hash of the names and contents of files."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python, the processor and the libraries that decide about the content of an artefact."""
    found = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {**found, "python": platform.python_version(), "processor": _processor()}


@functools.cache
def _processor() -> str:
    """Return the name and the features of the processor: bf16 and int8 builds differ between processors."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    features = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags"))][:2]
    return hashlib.sha256("\n".join(features or [platform.processor()]).encode()).hexdigest()


def _file_of(module: str, roots: tuple[Path, ...]) -> Path | None:
    for root in roots:
        place = root.joinpath(*module.split("."))
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
    return None


def _imports(path: Path, module: str) -> Iterator[str]:
    """Yield the names of modules, and of their parents and possible submodules, that a file imports."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            yield from _with_parents(base)
            for alias in node.names:
                yield f"{base}.{alias.name}"


def _with_parents(module: str) -> Iterator[str]:
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        yield ".".join(parts[:length])
