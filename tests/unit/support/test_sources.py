"""The files on which a cached artefact depends: imported modules, data folders, and versions of libraries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.sources import PROJECT, SourceTree, files_hash, versions

Write = Callable[..., SourceTree]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes modules and returns their source tree.

    For example, ``write(package__maker="import json")`` writes the module ``package.maker``.
    """

    def write(**modules: str) -> SourceTree:
        for name, code in modules.items():
            file = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            (file.parent / "__init__.py").touch()
            file.write_text(code, encoding="utf-8")
        return SourceTree((tmp_path,))

    return write


def names(tree: SourceTree, module: str) -> set[str]:
    return {str(file.relative_to(tree.roots[0])) for file in tree.files(module)}


@pytest.mark.parametrize(
    "code",
    [
        "import package.used",
        "import package.used as other",
        "from package import used",
        "from package.used import name",
        "from . import used",
        "from .used import name",
        "def function():\n    from package import used",
        "if TYPE_CHECKING:\n    import package.used",
    ],
)
def test_every_form_of_import_is_followed(write: Write, code: str) -> None:
    tree = write(package__maker=code, package__used="", package__unused="")
    assert names(tree, "package.maker") == {"package/__init__.py", "package/maker.py", "package/used.py"}


def test_imports_of_imported_modules_are_followed(write: Write) -> None:
    tree = write(one__maker="import two.middle", two__middle="from ..three import last", three__last="")
    tree = write(two__middle="import three.last")
    assert names(tree, "one.maker") >= {"two/middle.py", "three/last.py", "three/__init__.py"}


def test_modules_may_import_each_other(write: Write) -> None:
    tree = write(package__one="import package.two", package__two="import package.one")
    assert names(tree, "package.one") == {"package/__init__.py", "package/one.py", "package/two.py"}


def test_relative_imports_reach_the_parent_package(write: Write) -> None:
    tree = write(package__inner__maker="from ..outer import name", package__outer="")
    assert "package/outer.py" in names(tree, "package.inner.maker")


def test_libraries_are_ignored(write: Write) -> None:
    assert names(write(package__maker="import json, numpy"), "package.maker") == {
        "package/__init__.py",
        "package/maker.py",
    }


def test_data_folders_count_for_the_module_that_reads_them(write: Write, tmp_path: Path) -> None:
    tree = write(package__maker="from package import reader", package__reader="", package__other="")
    for file in ("data/deep/settings.json", "data/__pycache__/settings.pyc"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    tree = SourceTree(tree.roots, {"package.reader": (tmp_path / "data",)})
    assert "data/deep/settings.json" in names(tree, "package.maker")
    assert not any("__pycache__" in name for name in names(tree, "package.maker"))
    assert "data/deep/settings.json" not in names(tree, "package.other")


class TestProject:
    """The sources on which the artefacts of this project depend."""

    def test_a_repository_depends_on_templates_and_samples(self) -> None:
        files = {str(file.relative_to(ROOT)) for file in PROJECT.files("tuwen_build.repository")}
        assert files >= {
            "build/tuwen_build/repository.py",
            "build/tuwen_build/towers/_text.py",
            "build/tuwen_repository/samples/vocab.txt",
            "client/tuwen/_transport.py",
            "model_repository/shared/items.py",
            "model_repository/text_encoder/config.pbtxt",
            "model_repository/text_tokenization/1/wordpiece.py",
        }

    def test_a_repository_depends_on_neither_server_nor_tests(self) -> None:
        files = {str(file.relative_to(ROOT)) for file in PROJECT.files("tuwen_build.repository")}
        assert not [file for file in files if file.startswith(("build/tuwen_server", "loadtest", "tests"))]

    def test_results_of_the_originals_depend_on_the_script_that_asks_them(self) -> None:
        files = {str(file.relative_to(ROOT)) for file in PROJECT.files("tests.reference.open_clip_reference")}
        assert files >= {"tests/reference/open_clip_reference.py", "tests/reference/native_names.py"}

    def test_versions_name_the_libraries_that_influence_a_build(self) -> None:
        assert versions().keys() >= {"python", "processor", "torch", "transformers", "tokenizers", "pillow"}


class TestHash:
    def test_a_hash_depends_on_content_and_path(self, tmp_path: Path) -> None:
        one, two = tmp_path / "one.txt", tmp_path / "two.txt"
        one.write_text("content")
        two.write_text("content")
        hashes = [files_hash([one]), files_hash([two]), files_hash([one, two])]
        one.write_text("CONTENT")
        assert len({*hashes, files_hash([one])}) == 4

    def test_a_hash_does_not_depend_on_the_order_of_files(self, tmp_path: Path) -> None:
        files = [tmp_path / "one.txt", tmp_path / "two.txt"]
        for file in files:
            file.write_text(file.name)
        assert files_hash(files) == files_hash(reversed(files))

    def test_a_moved_folder_has_the_same_relative_hash(self, tmp_path: Path) -> None:
        for folder in ("here", "there"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "file.txt").write_text("content")
        here, there = ([tmp_path / folder / "file.txt"] for folder in ("here", "there"))
        assert files_hash(here, tmp_path / "here") == files_hash(there, tmp_path / "there")
        assert files_hash(here) != files_hash(there)
