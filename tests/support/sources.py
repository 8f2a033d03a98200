"""The project files that a module depends on, found by following its imports without running them."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.paths import ROOT

__all__ = ["PROJECT", "SourceTree", "files_hash", "versions"]

_LIBRARIES = ("ftfy", "numpy", "pillow", "safetensors", "tokenizers", "torch", "transformers", "tritonclient")


@dataclass(frozen=True)
class SourceTree:
    """The source code of a project.

    Attributes:
        roots: the folders that hold top-level packages and modules, in the order in which Python searches them.
        data: the folders that a module reads as data, by the name of the module. Imports do not lead to these folders.
    """

    roots: tuple[Path, ...]
    data: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    def files(self, module: str) -> set[Path]:
        """Return the source files that an import of the module reads, and the files in these modules' data folders.

        Imports inside functions count as well. Modules outside the roots are left out, because they belong to
        libraries, which `versions` covers.
        """
        files: set[Path] = set()
        modules, waiting = set(), [module]
        while waiting:
            name = waiting.pop()
            path = self._file_of(name)
            if name in modules or path is None:
                continue
            modules.add(name)
            files.add(path)
            for folder in self.data.get(name, ()):
                files |= {file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts}
            waiting += _imports(path, name)
        return files

    def hash(self, module: str) -> str:
        """Return a hash of the names and contents of the files that `files` returns."""
        return files_hash(self.files(module))

    def _file_of(self, module: str) -> Path | None:
        for root in self.roots:
            place = root.joinpath(*module.split("."))
            for file in (place.with_suffix(".py"), place / "__init__.py"):
                if file.is_file():
                    return file
        return None


PROJECT = SourceTree(
    roots=tuple(ROOT / name for name in ("client", "build", "loadtest", ".")),
    data={
        "tuwen_build.export.configs": (ROOT / "model_repository",),
        "tuwen_repository.samples": (ROOT / "build" / "tuwen_repository" / "samples",),
    },
)


def files_hash(files: Iterable[Path], relative_to: Path | None = None) -> str:
    """Return a hash of the paths and contents of files.

    Args:
        files: the files, in any order.
        relative_to: the folder to which the hashed paths are relative; None: absolute paths are hashed.
    """
    digest = hashlib.sha256()
    for file in sorted(files):
        name = file if relative_to is None else file.relative_to(relative_to)
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python, the processor and the libraries that influence the content of an artefact.

    A library that is not installed has the version "none".
    """
    found = {name: _version(name) for name in _LIBRARIES}
    return {**found, "python": platform.python_version(), "processor": _processor()}


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _processor() -> str:
    """Return a hash of the processor's name and features, because bf16 and int8 builds differ between processors."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    features = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags"))][:2]
    return hashlib.sha256("\n".join(features or [platform.processor()]).encode()).hexdigest()


def _imports(path: Path, module: str) -> Iterator[str]:
    """Yield the names that a file may import: modules, their parent packages, and possible submodules."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    yield from _with_parents(package)
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
