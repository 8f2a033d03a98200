"""The private environment of the server's Python processes has the server's numpy. Other packages are the user's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tuwen_server._interpreter import make_interpreter, package_folders


def write_package(folder: Path, name: str, version: str) -> None:
    """Write a package with a version, as pip would install it."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(f"__version__ = {version!r}\n", encoding="utf-8")


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A private interpreter in front of an environment with numpy 2, torch, and an editable install."""
    write_package(tmp_path / "server", "numpy", "1.26.4")
    user = tmp_path / "it's the user's"
    write_package(user, "numpy", "2.4.6")
    write_package(user, "torch", "2.13.0")
    write_package(tmp_path / "checkout", "editable", "0.1.0")
    (user / "editable.pth").write_text(f"{tmp_path / 'checkout'}\n", encoding="utf-8")
    return make_interpreter(tmp_path / "interpreter", tmp_path / "server", [user]) / "python3"


def answer(python: Path, code: str) -> object:
    """Run code in an isolated interpreter, and return the JSON that the code prints."""
    return json.loads(subprocess.check_output([python, "-I", "-c", f"import json; {code}"], text=True, timeout=60))


def test_the_server_s_numpy_comes_before_the_user_s(python: Path) -> None:
    assert answer(python, "import numpy; print(json.dumps(numpy.__version__))") == "1.26.4"


@pytest.mark.parametrize("package", ["torch", "editable"])
def test_other_packages_are_those_of_the_user(python: Path, package: str) -> None:
    assert answer(python, f"import {package}; print(json.dumps({package}.__name__))") == package


def test_the_environment_has_no_pip(python: Path) -> None:
    code = "import importlib.util; print(json.dumps(importlib.util.find_spec('pip') is None))"
    assert answer(python, code) is True


def test_the_environment_has_the_same_python_version(python: Path) -> None:
    assert answer(python, "import sys; print(json.dumps(sys.version_info[:3]))") == list(sys.version_info[:3])


def test_the_folders_of_packages_are_those_of_this_interpreter() -> None:
    assert any((folder / "pytest").is_dir() for folder in package_folders())


def test_packages_that_pip_installed_for_the_user_alone_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("site.ENABLE_USER_SITE", True)
    monkeypatch.setattr("site.getusersitepackages", lambda: str(tmp_path))
    assert package_folders()[-1] == tmp_path
