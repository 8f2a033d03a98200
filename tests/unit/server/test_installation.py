"""The embedded server is installed into a folder of its own, with checked hashes. A failure says what is missing."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tuwen_server import _installation
from tuwen_server._installation import PACKAGES, Installation, ensure_installed, install_server
from tuwen_server.errors import InstallationError


class Pip:
    """A fake pip, which writes the files that a test needs from the packages.

    Attributes:
        commands: the commands that were started.
        requirements: the requirement of each command.
        environments: the environment of each command.
        failure: the text that pip prints before it fails; empty: pip succeeds.
        fills: whether pip writes any file.
    """

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.requirements: list[str] = []
        self.environments: list[dict[str, str]] = []
        self.failure = ""
        self.fills = True

    def __call__(self, command: list[str], env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        self.requirements.append(Path(command[command.index("--requirement") + 1]).read_text(encoding="utf-8"))
        self.environments.append(env)
        if self.failure:
            return subprocess.CompletedProcess(command, 1, "", self.failure)
        target = Path(command[command.index("--target") + 1])
        if self.fills:
            (target / "numpy").mkdir(parents=True)
            binary = target / "pytriton" / "tritonserver" / "bin" / "tritonserver"
            binary.parent.mkdir(parents=True)
            binary.touch()
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def pip() -> Pip:
    return Pip()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the installation. The platform checks accept the Python that runs the test."""
    monkeypatch.setenv("TUWEN_SERVER_FOLDER", str(tmp_path / "servers"))
    monkeypatch.setattr(_installation, "check_platform", lambda: None)
    monkeypatch.setattr(_installation, "_NEWEST_WITH_NUMPY", (3, 99))
    return Installation.default().folder


def test_installs_the_wheel_and_numpy_apart(pip: Pip, said: list[str], folder: Path) -> None:
    installation = install_server(say=said.append, run=pip)
    assert installation.complete
    targets = [Path(command[command.index("--target") + 1]).name for command in pip.commands]
    assert targets == ["wheel", "packages"]
    assert [requirement.split()[0] for requirement in pip.requirements] == [
        f"{name}=={version}" for name, version in PACKAGES.items()
    ]
    assert len(said) == 1
    assert str(folder) in said[0]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_every_package_is_checked_by_hash_and_brings_no_other(pip: Pip, said: list[str]) -> None:
    install_server(say=said.append, run=pip)
    for command, requirement in zip(pip.commands, pip.requirements, strict=True):
        assert {"--require-hashes", "--no-deps"} <= set(command)
        assert re.fullmatch(r"\S+==\S+( +--hash=sha256:[0-9a-f]{64})+\n", requirement)


def test_a_folder_of_wheels_takes_the_place_of_the_network(pip: Pip, said: list[str], tmp_path: Path) -> None:
    install_server(tmp_path, say=said.append, run=pip)
    for command in pip.commands:
        assert command[command.index("--find-links") + 1] == str(tmp_path)
        assert "--no-index" in command


def test_settings_of_the_user_do_not_redirect_pip(pip: Pip, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONSTRAINT", "/of/the/user")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example")
    install_server(say=said.append, run=pip)
    assert all("PIP_CONSTRAINT" not in environment for environment in pip.environments)
    assert all(environment["PIP_INDEX_URL"] == "https://mirror.example" for environment in pip.environments)


def test_a_new_installation_replaces_an_incomplete_one(pip: Pip, said: list[str], folder: Path) -> None:
    (folder / "rest").mkdir(parents=True)
    assert install_server(say=said.append, run=pip).complete
    assert not (folder / "rest").exists()


def test_a_failure_quotes_pip_and_leaves_no_folder(pip: Pip, said: list[str], folder: Path) -> None:
    pip.failure = "WARNING: retrying\nERROR: No matching distribution found for nvidia-pytriton==0.7.0\n"
    with pytest.raises(InstallationError, match="No matching distribution") as caught:
        install_server(say=said.append, run=pip)
    assert "cannot install nvidia-pytriton==0.7.0" in str(caught.value)
    assert "tuwen server install --wheels FOLDER" in str(caught.value)
    assert list(folder.parent.iterdir()) == []


def test_a_failure_keeps_the_installation_that_is_there(pip: Pip, said: list[str]) -> None:
    install_server(say=said.append, run=pip)
    pip.failure = "ERROR: no network"
    with pytest.raises(InstallationError):
        install_server(say=said.append, run=pip)
    assert Installation.default().complete


def test_an_incomplete_result_is_an_error(pip: Pip, said: list[str]) -> None:
    pip.fills = False
    with pytest.raises(InstallationError):
        install_server(say=said.append, run=pip)


def test_rejects_wheels_that_are_not_in_a_folder(pip: Pip, said: list[str], tmp_path: Path) -> None:
    with pytest.raises(InstallationError, match="expected a folder of wheels"):
        install_server(tmp_path / "missing", say=said.append, run=pip)
    assert pip.commands == []


def test_a_folder_that_cannot_be_written_is_named(
    pip: Pip, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUWEN_SERVER_FOLDER", str(tmp_path / "file"))
    with pytest.raises(InstallationError, match="cannot write.*set TUWEN_SERVER_FOLDER"):
        install_server(say=said.append, run=pip)


def test_a_complete_installation_is_used_in_silence(pip: Pip, said: list[str]) -> None:
    install_server(say=lambda _: None, run=pip)
    assert ensure_installed(say=said.append).complete
    assert said == []


class TestInstallers:
    @pytest.fixture(autouse=True)
    def _without_pip(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    def test_uv_installs_if_pip_is_missing(self, pip: Pip, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
        install_server(say=said.append, run=pip)
        assert pip.commands[0][:3] == ["/bin/uv", "pip", "install"]

    def test_says_how_to_get_pip(self, pip: Pip, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda _: None)
        with pytest.raises(InstallationError, match="pip is missing in this environment; run: .* -m ensurepip"):
            install_server(say=said.append, run=pip)


class TestCompiler:
    """The installation on Python 3.13, which needs a compiler because numpy 1.26 has no wheel for this version."""

    @pytest.fixture(autouse=True)
    def check(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        monkeypatch.setattr(_installation, "_NEWEST_WITH_NUMPY", (3, 9))
        return _installation._check_compiler

    def test_says_what_to_install_without_a_compiler(
        self, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shutil.which", lambda _: None)
        with pytest.raises(InstallationError, match=r"must be compiled; run: sudo apt install build-essential python3"):
            check()

    def test_says_what_to_install_without_the_headers(
        self, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shutil.which", lambda _: "/bin/cc")
        monkeypatch.setattr("sysconfig.get_path", lambda _: "/nowhere")
        with pytest.raises(InstallationError, match="python3.*-dev"):
            check()

    def test_a_compiler_with_the_headers_is_enough(
        self, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "Python.h").touch()
        monkeypatch.setattr("shutil.which", lambda _: "/bin/cc")
        monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
        check()
