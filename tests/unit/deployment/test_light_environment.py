"""`make check` installs the light environment alone: nothing in it needs torch, Ray, Helm or a browser."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.light_lane import FULL_LIBRARIES
from tests.support.paths import ROOT

DISTRIBUTIONS = FULL_LIBRARIES - {"helm_python", "milvus_lite"} | {"helm-python-sdk", "milvus-lite"}


def packages(extra: str, extras: dict[str, list[str]]) -> set[str]:
    """Return the names of the packages that an extra and its included extras install."""
    found = set()
    for requirement in extras[extra]:
        name, _, included = requirement.partition("[")
        if name == "tuwen":
            for inner in included.partition("]")[0].split(","):
                found |= packages(inner, extras)
        else:
            found.add(re.split(r"[<>=;\[ ]", requirement)[0].lower().replace("_", "-"))
    return found


def imported_names(node: ast.AST) -> list[str]:
    """Return the names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def installed(target: str, folder: Path) -> list[str]:
    """Return the packages that the commands of a target would install in a project without an environment."""
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("pyproject.toml", "constraints.txt", "build/tuwen_server/packages.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    command = ["make", "--dry-run", target]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return sorted(set(re.findall(r"-e '(\S+)'", done.stdout)))


def test_the_extra_check_needs_no_library_of_the_full_environment() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    light = packages("check", extras)
    assert {"pytest", "ruff", "mypy", "zizmor", "griffelib"} <= light
    assert light & DISTRIBUTIONS == set()
    assert {"ray", "playwright", "helm-python-sdk"} <= packages("dev", extras)


def test_the_extra_test_has_what_the_tests_of_the_sdk_import() -> None:
    """The extra `test` installs every library that the tests of the SDK import.

    On Windows, on macOS and on a new Python, these tests run with this extra alone.
    """
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {**project["optional-dependencies"], "": project["dependencies"]}
    distributions = {"PIL": "pillow", "grpc": "tritonclient", "opentelemetry": "opentelemetry-sdk"}
    imported = {
        name.partition(".")[0]
        for path in (ROOT / "tests" / "unit" / "sdk").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imported_names(node)
    }
    others = {
        name for name in imported if name not in sys.stdlib_module_names and not name.startswith(("tuwen", "tests"))
    }
    optional = {"pyarrow"}  # its tests ask for it with `importorskip`
    assert {distributions.get(name, name) for name in others - optional} <= packages("test", extras) | packages(
        "", extras
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")
@pytest.mark.parametrize(
    ("target", "extras"), [("check", [".[check]"]), ("lint", [".[check]"]), ("serve", [".[build,edge,serve]"])]
)
def test_a_target_installs_what_it_needs(tmp_path: Path, target: str, extras: list[str]) -> None:
    assert installed(target, tmp_path) == extras
