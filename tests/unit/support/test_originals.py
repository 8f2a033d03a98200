"""The interpreters of original implementations: they stay alive between commands, and every failure raises an error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.artefacts import Artefacts
from tests.support.originals import OriginalError, Originals, ReferenceInterpreter, content_hash

SCRIPTED = "tests.unit.support.scripted_reference"


@pytest.fixture
def interpreter(tmp_path: Path) -> Iterator[ReferenceInterpreter]:
    running = ReferenceInterpreter(SCRIPTED, tmp_path)
    yield running
    running.close()


class TestInterpreter:
    def test_starts_with_the_first_command_and_stays(self, interpreter: ReferenceInterpreter, tmp_path: Path) -> None:
        assert not interpreter.running
        for text in ("一", "二"):
            interpreter.run("note", output=str(tmp_path), text=text)
            assert (tmp_path / "note.txt").read_text(encoding="utf-8") == text
            assert interpreter.running
        interpreter.close()
        assert not interpreter.running

    def test_a_failed_command_raises_its_traceback(self, interpreter: ReferenceInterpreter, tmp_path: Path) -> None:
        with pytest.raises(OriginalError, match=r"(?s)'fail' .* failed:.*in fail.*ValueError: no such model"):
            interpreter.run("fail", text="no such model")
        interpreter.run("note", output=str(tmp_path), text="and goes on")

    def test_an_unknown_command_is_an_error(self, interpreter: ReferenceInterpreter) -> None:
        with pytest.raises(OriginalError, match="KeyError: 'paint'"):
            interpreter.run("paint")

    def test_a_command_that_ends_the_interpreter_is_an_error(
        self, interpreter: ReferenceInterpreter, tmp_path: Path
    ) -> None:
        with pytest.raises(OriginalError, match=r"(?s)exit code 3:.*killed by a library"):
            interpreter.run("end", code=3)
        interpreter.run("note", output=str(tmp_path), text="started again")

    def test_a_command_beyond_its_deadline_is_ended(self, interpreter: ReferenceInterpreter) -> None:
        with pytest.raises(OriginalError, match=r"'wait' .* did not finish within 0.2 s"):
            interpreter.run("wait", seconds=0.2)
        assert not interpreter.running

    def test_a_module_that_cannot_be_imported_is_an_error(self, tmp_path: Path) -> None:
        interpreter = ReferenceInterpreter("tests.reference.no_such_module", tmp_path)
        with pytest.raises(OriginalError, match=r"(?s)exit code 1:.*ModuleNotFoundError"):
            interpreter.run("note")
        interpreter.close()


class TestCache:
    @pytest.fixture
    def environment(self, tmp_path: Path) -> Path:
        folder = tmp_path / "environment"
        folder.mkdir()
        (folder / ".complete").write_text("a recipe", encoding="utf-8")
        return folder

    def originals(self, tmp_path: Path, environment: Path) -> Originals:
        return Originals(Artefacts(tmp_path / "artefacts"), environment, {"cn_clip": SCRIPTED})

    def test_a_cached_result_starts_no_interpreter(self, tmp_path: Path, environment: Path) -> None:
        for run in ("first", "second"):
            originals = self.originals(tmp_path, environment)
            folder = originals.result("cn_clip", "note", {"text": "一"}, text="一")
            assert (folder / "note.txt").read_text(encoding="utf-8") == "一"
            assert originals.running == (["cn_clip"] if run == "first" else [])
            originals.close()

    def test_other_items_or_another_recipe_give_another_result(self, tmp_path: Path, environment: Path) -> None:
        originals = self.originals(tmp_path, environment)
        folders = [originals.result("cn_clip", "note", {"text": text}, text=text) for text in "一二"]
        (environment / ".complete").write_text("another recipe", encoding="utf-8")
        folders.append(originals.result("cn_clip", "note", {"text": "一"}, text="一"))
        assert len(set(folders)) == 3
        originals.close()

    def test_a_failed_command_leaves_no_result(self, tmp_path: Path, environment: Path) -> None:
        originals = self.originals(tmp_path, environment)
        for _ in range(2):
            with pytest.raises(OriginalError, match="TypeError"):  # the command does not accept `output`
                originals.result("cn_clip", "fail", {}, text="no")
        originals.close()

    def test_says_how_to_install_the_originals(self, tmp_path: Path) -> None:
        with pytest.raises(OriginalError, match="install them with: tests/environments.sh originals"):
            self.originals(tmp_path, tmp_path / "nowhere").result("cn_clip", "note", {}, text="")


class TestContentHash:
    def test_depends_on_content_but_not_on_path_or_time(self, tmp_path: Path) -> None:
        for place in ("a", "b", "c"):
            (tmp_path / place).mkdir()
            (tmp_path / place / "config.json").write_text("{}", encoding="utf-8")
            (tmp_path / place / "weights.bin").write_bytes(b"2" if place == "c" else b"1")
        os.utime(tmp_path / "b" / "weights.bin", (0, 0))
        first, second, other = (content_hash(tmp_path / place) for place in "abc")
        assert first == second != other

    def test_of_a_native_file_depends_on_the_architecture_beside_it(self, tmp_path: Path) -> None:
        (tmp_path / "clip_cn.pt").write_bytes(b"weights")
        before = content_hash(tmp_path / "clip_cn.pt")
        (tmp_path / "clip_cn.json").write_text('[{"vision_layers": 2}]', encoding="utf-8")
        assert content_hash(tmp_path / "clip_cn.pt") != before
