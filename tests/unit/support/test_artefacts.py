"""The artefact cache: folders are made once, made again after a change, and never left incomplete."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.artefacts import Artefacts
from tests.support.paths import ROOT
from tests.support.sources import SourceTree

DAY = 24 * 3600.0
MODULES = ("package.maker",)


class Maker:
    """A maker for the cache that writes one file and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "inner").mkdir()
        (folder / "inner" / "file.txt").write_text(f"made {self.calls}", encoding="utf-8")


@pytest.fixture
def tree(tmp_path: Path) -> SourceTree:
    """Return the sources of a package: a chain of three imports, a data folder of the last module, and another module.

    ``maker`` imports ``middle``, and ``middle`` imports ``reader``, which reads the data. No module imports
    ``unrelated``.
    """
    files = {
        "package/__init__.py": "",
        "package/maker.py": "import package.middle",
        "package/middle.py": "from package import reader",
        "package/reader.py": "",
        "package/unrelated.py": "",
        "models/encoder/config.pbtxt": "max_batch_size: 1",
    }
    root = tmp_path / "sources"
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return SourceTree((root,), {"package.reader": (root / "models",)})


@pytest.fixture
def cache(tmp_path: Path, tree: SourceTree) -> Callable[..., Artefacts]:
    """Return a function that opens the same cache again, as a new run of the tests does."""

    def opened(libraries: Mapping[str, str] | None = None, now: Callable[[], float] = lambda: 1e9) -> Artefacts:
        return Artefacts(tmp_path / "cache", sources=tree, libraries=lambda: libraries or {"torch": "2"}, now=now)

    return opened


def contents(root: Path) -> list[str]:
    """Return the names of all folders and records in a cache."""
    return sorted(path.name for path in root.glob("*/*"))


class TestKey:
    def test_a_folder_is_made_once_for_a_key(self, cache: Callable[..., Artefacts]) -> None:
        make = Maker()
        first = cache().get("thing", make, modules=MODULES, options={"size": 1})
        assert (first / "inner" / "file.txt").read_text() == "made 1"
        assert cache().get("thing", make, modules=MODULES, options={"size": 1}) == first
        assert make.calls == 1

    @pytest.mark.parametrize("options", [{"size": 2}, {"size": 1, "more": None}, None])
    def test_other_options_give_another_folder(
        self, cache: Callable[..., Artefacts], options: dict[str, object] | None
    ) -> None:
        make = Maker()
        folders = {cache().get("thing", make, modules=MODULES, options=each) for each in ({"size": 1}, options)}
        assert len(folders) == make.calls == 2

    def test_another_name_gives_another_folder(self, cache: Callable[..., Artefacts]) -> None:
        make = Maker()
        assert cache().get("one", make, modules=MODULES) != cache().get("two", make, modules=MODULES)
        assert make.calls == 2

    @pytest.mark.parametrize(
        "file", ["package/maker.py", "package/middle.py", "package/reader.py", "models/encoder/config.pbtxt"]
    )
    def test_after_a_change_of_a_source_or_data_file_the_folder_is_made_again(
        self, cache: Callable[..., Artefacts], tree: SourceTree, file: str
    ) -> None:
        make = Maker()
        before = cache().get("thing", make, modules=MODULES)
        with (tree.roots[0] / file).open("a", encoding="utf-8") as opened:
            opened.write("\n# changed\n")
        assert cache().get("thing", make, modules=MODULES) != before
        assert make.calls == 2

    def test_after_a_new_data_file_the_folder_is_made_again(
        self, cache: Callable[..., Artefacts], tree: SourceTree
    ) -> None:
        make = Maker()
        before = cache().get("thing", make, modules=MODULES)
        (tree.roots[0] / "models" / "encoder" / "more.py").touch()
        assert cache().get("thing", make, modules=MODULES) != before

    def test_a_change_of_a_module_that_is_not_imported_keeps_the_folder(
        self, cache: Callable[..., Artefacts], tree: SourceTree
    ) -> None:
        make = Maker()
        before = cache().get("thing", make, modules=MODULES)
        (tree.roots[0] / "package" / "unrelated.py").write_text("changed = True", encoding="utf-8")
        assert cache().get("thing", make, modules=MODULES) == before
        assert make.calls == 1

    def test_with_another_version_of_a_library_the_folder_is_made_again(self, cache: Callable[..., Artefacts]) -> None:
        make = Maker()
        folders = {cache({"torch": version}).get("thing", make, modules=MODULES) for version in ("2.9", "2.10", "2.9")}
        assert len(folders) == make.calls == 2


class TestDamage:
    @pytest.mark.parametrize("damage", ["changed", "missing", "added", "folder missing", "record missing"])
    def test_a_damaged_folder_is_made_again(self, cache: Callable[..., Artefacts], damage: str) -> None:
        make = Maker()
        folder = cache().get("thing", make, modules=MODULES)
        file = folder / "inner" / "file.txt"
        if damage == "changed":
            file.write_text("MADE 1")  # the file keeps its size
        elif damage == "missing":
            file.unlink()
        elif damage == "added":
            (folder / "more.txt").touch()
        elif damage == "folder missing":
            folder.rename(folder.with_name("elsewhere"))
        else:
            folder.with_suffix(".json").unlink()
        assert cache().get("thing", make, modules=MODULES) == folder
        assert file.read_text() == "made 2"
        assert sorted(path.name for path in folder.rglob("*")) == ["file.txt", "inner"]

    def test_bytecode_does_not_count_as_damage(self, cache: Callable[..., Artefacts]) -> None:
        """Python bytecode in a cached folder does not count as damage. A server writes it into a cached repository."""
        make = Maker()
        folder = cache().get("thing", make, modules=MODULES)
        (folder / "__pycache__").mkdir()
        (folder / "__pycache__" / "model.pyc").touch()
        cache().get("thing", make, modules=MODULES)
        assert make.calls == 1

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_a_maker_that_fails_leaves_no_files(
        self, cache: Callable[..., Artefacts], tmp_path: Path, error: type[BaseException]
    ) -> None:
        def fail(folder: Path) -> None:
            (folder / "half.txt").touch()
            raise error

        with pytest.raises(error):
            cache().get("thing", fail, modules=MODULES)
        assert contents(tmp_path / "cache") == []
        make = Maker()
        folder = cache().get("thing", make, modules=MODULES)
        assert make.calls == 1
        assert not (folder / "half.txt").exists()


class TestUnused:
    def test_folders_are_removed_after_two_weeks(self, cache: Callable[..., Artefacts], tmp_path: Path) -> None:
        make, today = Maker(), [1e9]

        def get(name: str) -> Path:
            return cache(now=lambda: today[0]).get(name, make, modules=MODULES)

        unused, used = get("unused"), get("used")
        today[0] += 10 * DAY
        assert get("used") == used  # this call counts as a use
        today[0] += 5 * DAY
        new = get("new")
        assert not unused.exists()
        assert sorted(contents(tmp_path / "cache")) == sorted(
            name for folder in (used, new) for name in (folder.name, f"{folder.name}.json")
        )

    def test_an_unused_folder_is_kept_until_another_folder_is_made(self, cache: Callable[..., Artefacts]) -> None:
        make = Maker()
        folder = cache().get("thing", make, modules=MODULES)
        cache(now=lambda: 1e9 + 20 * DAY).get("thing", make, modules=MODULES)
        assert folder.exists()
        assert make.calls == 1


class TestProcesses:
    """A cache that several processes use at the same time.

    Each process prints what it does, and completes a folder when it reads a line from its standard input.
    """

    PROGRAM = textwrap.dedent(
        """
        import logging, sys
        from pathlib import Path
        from tests.support.artefacts import Artefacts

        def make(folder):
            print("making", flush=True)
            (folder / "file.txt").write_text("half")
            if not sys.stdin.readline():
                raise SystemExit("nobody said that it may go on")
            (folder / "file.txt").write_text("complete")

        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
        folder = Artefacts(Path(sys.argv[1])).get("thing", make, modules=())
        print("got", (folder / "file.txt").read_text(), flush=True)
        """
    )

    def start(self, root: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def test_two_processes_make_the_same_folder_once(self, tmp_path: Path) -> None:
        with self.start(tmp_path) as first:
            assert first.stdout.readline() == "making\n"  # type: ignore[union-attr]
            with self.start(tmp_path) as second:
                assert second.stdout.readline().startswith("waiting for the process that makes")  # type: ignore[union-attr]
                said = first.communicate("go on\n", timeout=60)[0]
                assert said == "got complete\n"
                assert second.communicate(timeout=60)[0] == "got complete\n"
        assert len(contents(tmp_path)) == 2  # the folder and its record

    @pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
    def test_a_waiting_process_makes_the_folder_of_an_interrupted_one(
        self, tmp_path: Path, end: signal.Signals
    ) -> None:
        with self.start(tmp_path) as first:
            assert first.stdout.readline() == "making\n"  # type: ignore[union-attr]
            with self.start(tmp_path) as second:
                assert second.stdout.readline().startswith("waiting")  # type: ignore[union-attr]
                os.kill(first.pid, end)
                assert second.stdout.readline() == "making\n"  # type: ignore[union-attr]
                assert second.communicate("go on\n", timeout=60)[0] == "got complete\n"
        assert first.returncode == -end
        assert len(contents(tmp_path)) == 2
