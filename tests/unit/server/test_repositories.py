"""Several repositories behind one server: they are found and laid out at the start and while the server runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.stand_in import HurriedClock, StandIn, write_repository
from tuwen import InvalidArgumentError
from tuwen.model_names import full_name
from tuwen_repository.checksums import file_hashes
from tuwen_repository.configs import config_path, read_config, write_config
from tuwen_repository.errors import NotARepositoryError
from tuwen_repository.manifest import MANIFEST, Manifest
from tuwen_server import EmbeddedServer, ServerOptions
from tuwen_server._drain import ModelControl
from tuwen_server._overlay import WEIGHTS, Overlay
from tuwen_server._repositories import Repositories


def named(folder: Path, name: str, weights: bytes = b"weights") -> Path:
    """Write a small repository whose models have the given name."""
    write_repository(folder)
    for path in [path for path in folder.iterdir() if path.is_dir()]:
        config = read_config(path / "config.pbtxt")
        config.name = full_name(name, path.name)
        write_config(config, path / "config.pbtxt")
        path.rename(folder / config.name)
    (folder / full_name(name, "vision_encoder") / "1" / "model.pt").write_bytes(weights)
    manifest = Manifest.read(folder)
    (folder / MANIFEST).unlink()
    replace(manifest, name=name, files=file_hashes(folder)).write(folder)
    return folder


class Running:
    """The repositories of a server that was started, and the names whose models are loaded."""

    def __init__(self, scratch: Path, *folders: Path) -> None:
        self.repositories = Repositories(folders, check_files=True)
        self.overlay = Overlay(scratch, queue_policies=False, cache_mib=0)
        self.repositories.lay_out(self.repositories.checked(), self.overlay)
        self.in_use: set[str] = set()

    def refresh(self) -> list[str]:
        return self.repositories.refresh(self.overlay, lambda: self.in_use)

    def weights(self, name: str) -> bytes:
        return (self.overlay.folder / f"{name}_vision_encoder" / "1" / "model.pt").read_bytes()

    def stamp(self, name: str) -> str:
        config = read_config(config_path(self.overlay.folder, f"{name}_vision_encoder"))
        return config.parameters[WEIGHTS].string_value


def test_the_models_of_several_repositories_lie_in_one_folder(tmp_path: Path) -> None:
    running = Running(tmp_path / "scratch", named(tmp_path / "a", "b16"), named(tmp_path / "b", "l14"))
    found = {path.name for path in running.overlay.folder.iterdir()}
    assert len(found) == 14
    assert {"b16_text_embedding", "l14_text_embedding"} < found


def test_a_folder_of_repositories_stands_for_all_of_them(tmp_path: Path) -> None:
    for name in ("b16", "l14"):
        named(tmp_path / "models" / name, name)
    (tmp_path / "models" / "notes").mkdir()
    found = Repositories([tmp_path / "models"], check_files=True).checked()
    assert [repository.manifest.name for repository in found] == ["b16", "l14"]


@pytest.mark.parametrize("name", ["b16", ""])
def test_two_repositories_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    folders = [named(tmp_path / "a", name), named(tmp_path / "b", name)]
    with pytest.raises(InvalidArgumentError, match=r"/a and .*/b .* name.*tuwen build --name NAME"):
        Repositories(folders, check_files=True).checked()


def test_one_repository_may_have_no_name(tmp_path: Path) -> None:
    folders = [named(tmp_path / "a", ""), named(tmp_path / "b", "b16")]
    assert len(Repositories(folders, check_files=True).checked()) == 2


def test_a_folder_without_repositories_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotARepositoryError):
        Repositories([tmp_path], check_files=True).checked()
    with pytest.raises(InvalidArgumentError, match="at least one"):
        Repositories([], check_files=True)


def test_a_server_starts_with_all_repositories(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.behave()
    folders = [named(tmp_path / "a", "b16"), named(tmp_path / "b", "l14")]
    with EmbeddedServer(folders, ServerOptions.on_free_ports()) as server:
        assert server.refresh() == []
    unloads = [event for event in stand_in.timeline() if event.startswith("unload ")]
    assert len(unloads) == 6


class TestAliases:
    def test_a_restart_sets_the_aliases_again(
        self, make_server: Callable[..., EmbeddedServer], stand_in: StandIn
    ) -> None:
        stand_in.behave(aliases=["shop_text_embedding", "resnet"])
        server = make_server()
        server.start()
        server.refresh()
        server.restart()
        assert self.laid(stand_in) == {"shop_text_embedding"}
        server.refresh()
        server.restart()  # the alias lies in the repository now
        assert self.laid(stand_in) == {"shop_text_embedding"}

    def test_a_removed_alias_stays_removed(
        self, make_server: Callable[..., EmbeddedServer], stand_in: StandIn, clock: HurriedClock
    ) -> None:
        stand_in.behave(aliases=["shop_text_embedding"])
        server = make_server()
        server.start()
        server.refresh()
        stand_in.behave(aliases=[])
        clock.pause(11)
        server.refresh()
        server.restart()
        assert self.laid(stand_in) == set()

    def test_aliases_are_kept_while_the_server_does_not_answer(
        self, make_server: Callable[..., EmbeddedServer], stand_in: StandIn
    ) -> None:
        stand_in.behave(aliases=["shop_text_embedding"])
        server = make_server()
        server.start()
        server.refresh()
        stand_in.behave(answers=False)
        server.refresh()
        stand_in.behave()
        server.restart()
        assert self.laid(stand_in) == {"shop_text_embedding"}

    def test_aliases_are_read_when_the_log_says_that_a_model_changed(
        self,
        make_server: Callable[..., EmbeddedServer],
        stand_in: StandIn,
        clock: HurriedClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        read: list[float] = []
        monkeypatch.setattr(ModelControl, "aliases", lambda *_: read.append(clock.now()) or [])
        server = make_server()
        server.start()
        for _ in range(9):
            server.refresh()
            clock.pause(1)
        assert len(read) == 1
        assert server._log is not None
        server._log._changes += 1
        server.refresh()
        server.refresh()
        assert len(read) == 2
        clock.pause(11)
        server.refresh()
        assert len(read) == 3

    def laid(self, stand_in: StandIn) -> set[str]:
        """Return the models of aliases in the repository of the last start."""
        [folder] = [one.partition("=")[2] for one in stand_in.starts()[-1] if one.startswith("--model-repository=")]
        return {path.name for path in Path(folder).iterdir() if path.name.startswith(("shop", "resnet"))}


class TestRefresh:
    def test_a_new_repository_is_laid_out(self, tmp_path: Path) -> None:
        named(tmp_path / "models" / "b16", "b16")
        running = Running(tmp_path / "scratch", tmp_path / "models")
        assert running.refresh() == []
        named(tmp_path / "models" / "l14", "l14")
        [said] = running.refresh()
        assert said.endswith("load it with: tuwen models load l14")
        assert running.weights("l14") == b"weights"
        assert running.refresh() == []

    def test_a_repository_that_is_being_copied_is_reported_once_and_tried_again(self, tmp_path: Path) -> None:
        named(tmp_path / "models" / "b16", "b16")
        whole = named(tmp_path / "whole", "l14")
        running = Running(tmp_path / "scratch", tmp_path / "models")
        shutil.copytree(whole, tmp_path / "models" / "l14", ignore=shutil.ignore_patterns("model.pt"))
        [said] = running.refresh()
        assert "model.pt is missing" in said
        assert running.refresh() == []
        assert not (running.overlay.folder / "l14_text_embedding").exists()
        shutil.copytree(whole, tmp_path / "models" / "l14", dirs_exist_ok=True)
        assert "found" in running.refresh()[0]

    def test_a_repository_with_the_name_of_another_is_not_laid_out(self, tmp_path: Path) -> None:
        named(tmp_path / "models" / "b16", "b16", b"first")
        running = Running(tmp_path / "scratch", tmp_path / "models")
        named(tmp_path / "models" / "copy", "b16", b"second")
        assert "both have the name 'b16'" in running.refresh()[0]
        assert running.weights("b16") == b"first"

    def test_a_repository_that_was_removed_is_reported_once_and_found_again(self, tmp_path: Path) -> None:
        folder = named(tmp_path / "b16", "b16")
        running = Running(tmp_path / "scratch", folder)
        shutil.rmtree(folder)
        [said] = running.refresh()
        assert "is not a built repository" in said
        assert running.refresh() == []
        named(folder, "b16")
        assert "replaced" in running.refresh()[0]

    def test_a_replaced_repository_waits_until_its_models_are_unloaded(self, tmp_path: Path) -> None:
        folder = named(tmp_path / "b16", "b16", b"first")
        running = Running(tmp_path / "scratch", folder)
        before = running.stamp("b16")
        running.in_use = {"b16"}
        shutil.rmtree(folder)
        named(folder, "b16", b"second")
        [said] = running.refresh()
        assert "the old build is still loaded; run: tuwen models unload b16" in said
        assert running.stamp("b16") == before  # so that our backend refuses the new weights
        running.in_use = set()
        assert "replaced" in running.refresh()[0]
        assert running.weights("b16") == b"second"
        assert running.stamp("b16") != before

    def test_the_files_of_a_loaded_python_model_do_not_change_with_the_repository(self, tmp_path: Path) -> None:
        folder = named(tmp_path / "b16", "b16")
        code = folder / "b16_text_tokenization" / "1" / "model.py"
        code.write_text("first = 1\n")
        manifest = Manifest.read(folder)
        (folder / MANIFEST).unlink()
        replace(manifest, files=file_hashes(folder)).write(folder)
        running = Running(tmp_path / "scratch", folder)
        code.write_text("second = 2\n")
        laid = running.overlay.folder / "b16_text_tokenization" / "1"
        assert (laid / "model.py").read_text() == "first = 1\n"
        assert list((laid / "__pycache__").glob("model.*.pyc"))
