"""Output folders: they appear complete or not at all, and files that a command did not make are never deleted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tuwen_build.errors import BuildError, OutputExistsError
from tuwen_build.outputs import OutputFolder

MARKER = "manifest.json"


def write(folder: Path, content: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / MARKER).write_text(content, encoding="utf-8")
    return folder


def content(folder: Path) -> str:
    return (folder / MARKER).read_text(encoding="utf-8")


def make(folder: OutputFolder, content: str, during: Callable[[], object] = lambda: None) -> None:
    """Write into an output folder, and call a function before the folder appears at its final path."""
    with folder.staged() as staged:
        write(staged, content)
        during()


def test_the_output_appears_when_the_block_ends(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out"
    with OutputFolder(output, MARKER).staged() as staged:
        write(staged, "new")
        assert not output.exists()
    assert content(output) == "new"
    assert [path.name for path in output.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_the_earlier_output(tmp_path: Path, error: type[BaseException]) -> None:
    output = write(tmp_path / "out", "old")

    def fail() -> None:
        raise error

    with pytest.raises(error):
        make(OutputFolder(output, MARKER, force=True), "new", fail)
    assert content(output) == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_earlier_output_is_replaced_only_with_force(tmp_path: Path) -> None:
    output = write(tmp_path / "out", "old")
    with pytest.raises(OutputExistsError, match="--force replaces it"), OutputFolder(output, MARKER).staged():
        pytest.fail("the block must not begin")
    with OutputFolder(output, MARKER, force=True).staged() as staged:
        write(staged, "new")
    assert content(output) == "new"


def test_an_empty_folder_may_be_the_output(tmp_path: Path) -> None:
    with OutputFolder(tmp_path, MARKER).staged() as staged:
        write(staged, "new")
    assert content(tmp_path) == "new"


def test_a_folder_without_the_marker_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(OutputExistsError, match="was not changed"), OutputFolder(tmp_path, MARKER, force=True).staged():
        pytest.fail("the block must not begin")
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_a_symbolic_link_is_refused_before_the_block(tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(write(tmp_path / "v1", "old"))
    with pytest.raises(OutputExistsError, match="is a symbolic link"), OutputFolder(link, MARKER, force=True).staged():
        pytest.fail("the block must not begin")
    assert link.is_symlink()


def test_a_mount_point_is_refused_before_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda _: True)
    with pytest.raises(OutputExistsError, match="is a mount point"), OutputFolder(tmp_path, MARKER).staged():
        pytest.fail("the block must not begin")


def test_a_file_is_refused_before_the_block(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputExistsError, match="is a file"), OutputFolder(tmp_path / "out", MARKER).staged():
        pytest.fail("the block must not begin")


def test_an_output_that_appears_during_the_block_is_not_replaced(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(OutputExistsError, match="--force"):
        make(OutputFolder(output, MARKER), "mine", lambda: write(output, "of another process"))
    assert content(output) == "of another process"


def test_an_output_that_another_process_has_just_written_is_not_replaced(tmp_path: Path) -> None:
    output = write(tmp_path / "out", "old")
    forced = OutputFolder(output, MARKER, force=True)
    with pytest.raises(OutputExistsError, match="changed by another process"):
        make(forced, "mine", lambda: make(forced, "of another process"))
    assert content(output) == "of another process"


def test_files_that_appear_during_the_block_in_an_empty_folder_are_kept(tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError, match="not changed"), OutputFolder(tmp_path, MARKER).staged():
        (tmp_path / "thesis.txt").touch()
    assert (tmp_path / "thesis.txt").exists()


def test_the_earlier_output_is_put_back_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = write(tmp_path / "out", "old")
    rename = Path.rename

    def fail_for_the_new_one(self: Path, target: Path) -> Path:
        if self.is_relative_to(output) or (self.name == "out" and content(self) == "new"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with (
        pytest.raises(BuildError, match="the disk is full; free some space"),
        OutputFolder(output, MARKER, force=True).staged() as staged,
    ):
        write(staged, "new")
    assert content(output) == "old"


def test_an_earlier_output_that_cannot_be_put_back_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = write(tmp_path / "out", "old")
    rename = Path.rename

    def fail_at_the_output(self: Path, target: Path) -> Path:
        if target == output:  # simulates another process that made a folder there
            raise OSError(39, "Directory not empty")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_at_the_output)
    with (
        pytest.raises(
            BuildError, match=r"Directory not empty\), and the earlier output .* is in '(.*)'; move"
        ) as raised,
        OutputFolder(output, MARKER, force=True).staged() as staged,
    ):
        write(staged, "new")
    assert content(Path(str(raised.value).split("'")[3])) == "old"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match="cannot write to"), OutputFolder(tmp_path / "file" / "out", MARKER).staged():
        pytest.fail("the block must not begin")
