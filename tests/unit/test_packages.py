"""The imports between packages: no package imports another's private names, and the diagram shows all imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = sorted(
    path.parent for source in ("client", "build", "loadtest") for path in ROOT.glob(f"{source}/*/__init__.py")
)
# The libraries that the SDK requires. Every other library belongs to an extra and is imported inside a function.
# The module `_http` is itself imported inside a function, so it may import httpx at its top.
SDK_NEEDS = {"PIL", "google", "grpc", "numpy", "tqdm", "tritonclient"}


def modules(package: Path) -> Iterator[Path]:
    return package.rglob("*.py")


def private_imports(text: str, package: str) -> list[str]:
    """Return the private modules and names that a module imports from other packages of the project."""
    names = {folder.name for folder in PACKAGES}
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported = [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            imported = [(alias.name, "") for alias in node.names]
        else:
            continue
        for module, name in imported:
            parts = [*module.split("."), name]
            foreign = parts[0] in names and parts[0] != package
            if foreign and any(part.startswith("_") and not part.startswith("__") for part in parts):
                found.append(f"{module}.{name}")
    return found


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_imports_no_private_name_of_another_package(package: Path) -> None:
    found = {
        str(path.relative_to(ROOT)): names
        for path in modules(package)
        if (names := private_imports(path.read_text(encoding="utf-8"), package.name))
    }
    assert not found


@pytest.mark.parametrize(
    "text", ["from tuwen._client import Client", "import tuwen._client", "from tuwen import _client"]
)
def test_finds_a_private_import(text: str) -> None:
    assert private_imports(text, "tuwen_search")
    assert not private_imports(text, "tuwen")


def test_the_sdk_imports_only_its_own_needs() -> None:
    found = set()
    for path in set(modules(ROOT / "client" / "tuwen")) - {ROOT / "client" / "tuwen" / "_http.py"}:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:  # only imports at the top of the module
            if isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).partition(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
    assert found - set(sys.stdlib_module_names) - {"tuwen"} <= SDK_NEEDS


def test_every_package_is_part_of_the_wheel_and_typed() -> None:
    listed = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for package in PACKAGES:
        assert f'"{package.relative_to(ROOT)}"' in listed
        assert (package / "py.typed").is_file()


def test_the_picture_of_the_packages_is_up_to_date() -> None:
    command = [sys.executable, "docs/draw_packages.py", "--check"]
    finished = subprocess.run(command, cwd=ROOT, timeout=60, check=False)
    assert finished.returncode == 0, "run: python docs/draw_packages.py"
