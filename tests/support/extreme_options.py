"""Extreme values for every parameter of every command: each command must succeed, or print one sentence and fail.

The parameters come from the command line itself, so a new option is tested without a change here. A new command needs
an entry in `COMMANDS`: arguments with which the command gets as far as possible without a server.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
import typer

from tests.support.collections import picture
from tests.support.command import tuwen_here
from tests.support.shapes import write_shapes
from tests.support.stand_in import StandIn, write_repository
from tuwen import MissingExtraError
from tuwen._grpc import GrpcTransport
from tuwen.testing import FakeTransport
from tuwen_cli.main import _app
from tuwen_server._installation import Installation

__all__ = ["COMMANDS", "PARAMETERS", "Parameter", "check_values", "is_slow", "material", "name_of", "place"]

VALUES = (
    *("0", "-1", "1e-320", "9" * 30, "1e400", "nan", "inf", "-inf"),
    *("", " ", "猫🐈", "a=b:c,d", "x" * 300, "missing/file", "folder", "file"),
)
"""The values that each parameter gets: numbers, texts, and the names of a missing file, of a folder, and of a file."""

STORE = ("--store", "store.db")

COMMANDS: dict[str, tuple[str, ...]] = {
    "build": ("missing-checkpoint", "--output", "built"),
    "serve": ("repository", "--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"),
    "status": ("--over", "0"),
    "models list": ("--url", "127.0.0.1:1"),
    "models load": ("b16", "--url", "127.0.0.1:1"),
    "models unload": ("b16", "--url", "127.0.0.1:1"),
    "models alias": ("shop", "b16", "--url", "127.0.0.1:1"),
    "probe": ("127.0.0.1:1",),
    "doctor": ("127.0.0.1:1",),
    "embed": ("cat.png", "--text", "猫", "--output", "vectors.npz"),
    "similarity": ("--image", "cat.png", "--text", "猫"),
    "classify": ("cat.png", "--label", "猫", "--label", "狗"),
    "index": ("pictures", "--into", "shop", *STORE),
    "search": ("shop", "猫", *STORE),
    "web": ("shop", *STORE),
    "migrate": ("shop", "--to", "127.0.0.1:1", *STORE),
    "duplicates": ("shop", *STORE),
    "calibrate": (
        *("--positive", "classes/猫", "--negative", "classes/狗", "--text", "猫"),
        *("--output", "threshold.json", "--plot", "scores.png"),
    ),
    "edge": ("127.0.0.1:1", "--port", "0"),
    "edge-key": ("me", "--file", "keys"),
    "tune": ("missing-repository",),
    "loadtest": ("127.0.0.1:1", "--users", "2", "--output", "report"),
    "train": ("shapes", "--output", "trained", "--checkpoint", "missing-checkpoint"),
    "server install": ("--if-missing",),
    "collections list": STORE,
    "collections show": ("shop", *STORE),
    "collections fields": ("shop", *STORE),
    "collections rename": ("shop", "new", *STORE),
    "collections copy": ("shop", "copy", *STORE),
    "collections drop": ("nothing", "--yes", *STORE),
    "collections forget": ("shop", "nothing", *STORE),
    "collections move": ("shop", "--from", "here", "--to", "there", *STORE),
    "dataset emoji": ("emoji",),
    "evaluate retrieval": ("shapes", "--split", "valid"),
    "evaluate zero-shot": ("classes",),
}


class Parameter(NamedTuple):
    """A parameter of a command.

    Attributes:
        command: the words of the command, such as ``models load``; empty for an option of `tuwen` itself.
        name: the name of the argument, or the option with its hyphens.
        is_option: whether the parameter is an option. If not, it is an argument.
    """

    command: str
    name: str
    is_option: bool


def parameters() -> Iterator[Parameter]:
    """Yield every parameter of every command, and every option of `tuwen` itself, but no flags."""

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[Parameter]:
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                yield Parameter(" ".join(path), parameter.name, is_option=False)
            elif not getattr(parameter, "is_flag", False):
                yield Parameter(" ".join(path), parameter.opts[0], is_option=True)
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, (*path, name))

    yield from walk(typer.main.get_command(_app), ())


PARAMETERS = tuple(parameters())


def is_slow(parameter: Parameter) -> bool:
    """Return whether the command opens a store or draws a picture, which takes longer than other commands."""
    return "--store" in COMMANDS.get(parameter.command, ()) or parameter.name == "--confusion"


def name_of(parameter: Parameter) -> str:
    """Return the ID of the test of a parameter."""
    return f"{parameter.command} {parameter.name}".strip().replace(" ", "-")


def arguments_with(parameter: Parameter, value: str) -> list[str]:
    """Return a command line with this value for the parameter. The other arguments come from `COMMANDS`."""
    if not parameter.command:
        return [parameter.name, value, "status", "--over", "0"]
    command, base = parameter.command.split(), list(COMMANDS[parameter.command])
    if parameter.is_option:
        while parameter.name in base:
            place = base.index(parameter.name)
            del base[place : place + 2]
        return [*command, *base, parameter.name, value]
    first = next((place for place, word in enumerate(base) if word.startswith("-")), len(base))
    names = [one.name for one in PARAMETERS if one.command == parameter.command and not one.is_option]
    given = base[:first] + [value] * (names.index(parameter.name) >= first)
    if names.index(parameter.name) < first:
        given[names.index(parameter.name)] = value
    return [*command, *given, *base[first:]]


def outcome(arguments: list[str]) -> str | None:
    """Run a command, and return what is wrong with its exit code or message; None if nothing is wrong."""
    try:
        done = tuwen_here(*arguments, code=None)
    except Exception as error:
        return f"raised {type(error).__module__}.{type(error).__name__}: {error}"
    if done.returncode not in (0, 1, 2):
        return f"expected exit code 0, 1 or 2, got {done.returncode}"
    if done.returncode == 2 and "Usage:" not in done.stderr:
        return f"exit code 2, but no usage is shown: {done.stderr}"
    told = "tuwen: " in done.stderr or "not ready" in done.stdout or "error  " in done.stdout
    if done.returncode == 1 and not told:
        return f"exit code 1, but no sentence says why: {done.stderr}"
    return None


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with everything that the commands read: pictures, classes, a data set and a repository."""
    folder = tmp_path_factory.mktemp("material")
    for name in ("pictures", "classes/猫", "classes/狗", "folder"):
        (folder / name).mkdir(parents=True)
        (folder / name / "cat.png").write_bytes(picture(100))
    (folder / "cat.png").write_bytes(picture(100))
    (folder / "file").write_bytes(b"\x00\xff no text")
    write_shapes(folder / "shapes")
    write_repository(folder / "repository")
    return folder


@pytest.fixture
def place(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of `material`, in which the commands run. They reach no server and install no package."""
    folder = Path(shutil.copytree(material, tmp_path / "place"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TUWEN_SERVER_FOLDER", str(tmp_path / "installed"))
    stand_in = StandIn(Installation.default(), tmp_path / "stand-in")
    stand_in.behave(exit_code=3)
    monkeypatch.setenv("PATH", str(folder / "folder"))  # hides npm, so that nothing is fetched
    monkeypatch.setattr("tuwen._client.GrpcTransport", fake_transport)
    monkeypatch.setattr("tuwen_search.web.serve", lambda _: None)
    monkeypatch.setattr("tuwen_edge.server.uvicorn.Server.run", lambda *_, **__: None)
    monkeypatch.setattr("tuwen_loadtest._session.subprocess.run", refuse_to_run)
    return folder


def fake_transport(*arguments: Any, **options: Any) -> FakeTransport:
    """Check the arguments as the real transport does, and return a transport that answers without a server."""
    GrpcTransport(*arguments, **options).close()
    return FakeTransport(embedding_dimension=16)


def refuse_to_run(*_: object, **__: object) -> NoReturn:
    raise MissingExtraError("tests of extreme values may not start programs or fetch files")


def check_values(parameter: Parameter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command with every value of the parameter, and fail with a list of the values that caused a fault."""
    if parameter.command == "build":  # its module takes seconds to import
        for name in ("hub_files", "snapshot_download", "_download_from_modelscope"):
            monkeypatch.setattr(f"tuwen_build.checkpoints._source.{name}", refuse_to_run)
    found = {value: outcome(arguments_with(parameter, value)) for value in VALUES}
    wrong = {value[:40]: what for value, what in found.items() if what is not None}
    assert not wrong, json.dumps(wrong, indent=1, ensure_ascii=False)
