"""`tuwen server install`, and the commands that install the server when it is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import tuwen
from tests.support.stand_in import StandIn
from tuwen_loadtest._connection import Connection
from tuwen_loadtest._target import served
from tuwen_server import _installation
from tuwen_server._installation import Installation
from tuwen_server.errors import InstallationError


class Installer:
    """A fake of the function that installs the server.

    Attributes:
        wheels: the folder of wheels of each call.
        works: whether the installation succeeds.
    """

    def __init__(self) -> None:
        self.wheels: list[Path | None] = []
        self.works = True

    def __call__(self, wheels: Path | None = None, *, say: Callable[[str], None]) -> Installation:
        self.wheels.append(wheels)
        say("installing the embedded server")
        if not self.works:
            raise InstallationError("cannot install it")
        return Installation.default()


@pytest.fixture
def installer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Installer:
    """The installer of a machine on which the server is missing."""
    monkeypatch.setenv("TUWEN_SERVER_FOLDER", str(tmp_path / "empty"))
    installer = Installer()
    monkeypatch.setattr(_installation, "check_platform", lambda: None)
    monkeypatch.setattr(_installation, "install_server", installer)
    monkeypatch.setattr("tuwen_server.install_server", installer)
    return installer


@pytest.mark.parametrize(
    "command",
    [
        ("serve", "{repository}"),
        ("tune", "{repository}"),
        ("evaluate", "zero-shot", "{repository}", "--repository", "{repository}"),
    ],
    ids=lambda command: command[0],
)
def test_a_serving_command_announces_and_installs_a_missing_server(
    installer: Installer, repository: Path, command: tuple[str, ...]
) -> None:
    installer.works = False
    (repository / "猫").mkdir()
    (repository / "猫" / "a.png").touch()
    done = tuwen(*(part.format(repository=repository) for part in command), code=1)
    assert "installing the embedded server" in done.stderr
    assert "tuwen: cannot install it" in done.stderr


def test_a_load_test_announces_and_installs_a_missing_server(installer: Installer, repository: Path) -> None:
    installer.works = False
    said: list[str] = []
    with pytest.raises(InstallationError), served(Connection(str(repository)), said.append):
        pass
    assert said == ["installing the embedded server"]


def test_install_prints_the_folder(installer: Installer) -> None:
    done = tuwen("server", "install")
    assert done.stdout == f"{Installation.default().folder}\n"
    assert installer.wheels == [None]


def test_install_takes_a_folder_of_wheels(installer: Installer, tmp_path: Path) -> None:
    tuwen("server", "install", "--wheels", str(tmp_path))
    assert installer.wheels == [tmp_path]


def test_if_missing_takes_a_folder_of_wheels_too(installer: Installer, tmp_path: Path) -> None:
    tuwen("server", "install", "--if-missing", "--wheels", str(tmp_path))
    assert installer.wheels == [tmp_path]


def test_if_missing_leaves_an_installation_alone(installer: Installer, stand_in: StandIn) -> None:
    done = tuwen("server", "install", "--if-missing")
    assert done.stdout == f"{stand_in.installation.folder}\n"
    assert installer.wheels == []
