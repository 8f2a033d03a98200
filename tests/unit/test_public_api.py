"""`docs/public_api.txt` lists every public name with its signature, and a test fails if a signature changes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.paths import ROOT

SOURCE = '''"""A package."""
from things._inner import Thing, make
__all__ = ["Kind", "Thing", "make"]
Kind = int | str
'''
INNER = """
class Base:
    def shared(self) -> None: ...
    def _private(self) -> None: ...

class Thing(Base):
    size: int = 1
    def __init__(self, name: str, /, *sizes: int, wide: bool = False, **rest: object) -> None: ...
    def __repr__(self) -> str: ...
    @property
    def long(self) -> bool: ...

async def make(a, *, b=2): ...
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("public_api", ROOT / "docs" / "public_api.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "__init__.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "things" / "_inner.py").write_text(INNER, encoding="utf-8")
    return tmp_path


def test_the_list_is_up_to_date() -> None:
    command = [sys.executable, "docs/public_api.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}run: python docs/public_api.py"


def test_lists_names_with_their_signatures(script: ModuleType, package: Path) -> None:
    assert script.public_names(["things"], [package]) == [
        "async things.make(a, *, b = 2)",
        "class things.Thing(Base)",
        "things.Kind = int | str",
        "things.Thing.__init__(self, name: str, /, *sizes: int, wide: bool = False, **rest: object) -> None",
        "things.Thing.long: bool",
        "things.Thing.shared(self) -> None",
        "things.Thing.size: int",
    ]


def test_prints_the_signatures_that_have_changed(
    script: ModuleType, package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = package / "public_api.txt"
    monkeypatch.setattr(script, "PAGE", page)
    before, after = ["things.make(a)", "things.Kind"], ["things.make(a, b)", "things.Kind"]
    monkeypatch.setattr(script, "public_names", lambda: before)
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0
    monkeypatch.setattr(script, "public_names", lambda: after)
    assert script.main(["--check"]) == 1
    printed = capsys.readouterr().out
    assert "-things.make(a)\n" in printed
    assert "+things.make(a, b)\n" in printed
    assert "Kind" not in printed


def test_holds_every_name_of_the_sdk() -> None:
    lines = (ROOT / "docs" / "public_api.txt").read_text(encoding="utf-8").splitlines()
    import tuwen

    for name in tuwen.__all__:
        assert any(line.removeprefix("class ").startswith(f"tuwen.{name}") for line in lines), name
