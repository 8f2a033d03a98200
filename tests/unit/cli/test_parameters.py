"""Each command offers every option of its dataclasses once, with the dataclass's help text and default."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer

from tests.support.command import tuwen_here
from tuwen import InvalidArgumentError
from tuwen_build.options import BuildOptions, ReadOptions
from tuwen_cli.commands import target_of
from tuwen_cli.parameters import expand_options
from tuwen_lab.options import TrainingOptions
from tuwen_loadtest.options import LoadTestOptions, PayloadOptions
from tuwen_options import REQUIRED, Option, check_values, option_fields
from tuwen_search import Query
from tuwen_search.web import WebOptions
from tuwen_server.options import ServerOptions, TuningOptions

OFFERED: list[tuple[str, type]] = [
    ("build", BuildOptions),
    ("build", ReadOptions),
    ("serve", ServerOptions),
    ("tune", TuningOptions),
    ("train", TrainingOptions),
    ("loadtest", LoadTestOptions),
    ("loadtest", PayloadOptions),
    ("web", WebOptions),
    ("search", Query),
]
NOT_OFFERED = {
    LoadTestOptions: ["payloads"],  # the options inside `payloads` are offered instead
    PayloadOptions: ["worker"],  # Locust numbers its processes
    WebOptions: ["tls", "headers"],  # these options stand before the command: `tuwen --ca ... web`
}
OWN_PARAMETERS = {("serve", "arguments")}  # a positional parameter takes the repositories and these arguments


@pytest.mark.parametrize(("command", "options"), OFFERED)
def test_a_command_offers_every_option_with_the_same_default(command: str, options: type) -> None:
    offered = inspect.signature(target_of(command)).parameters
    for field in option_fields(options):
        if (command, field.name) in OWN_PARAMETERS:
            continue
        wanted: Any = inspect.Parameter.empty if field.default is REQUIRED else field.default
        if field.option.parse is not None and wanted == ():  # on the command line, one text contains all items
            wanted = None
        assert offered[field.name].default == wanted, field.name


@pytest.mark.parametrize(("command", "options"), OFFERED)
def test_the_help_of_a_command_is_the_text_beside_the_field(command: str, options: type) -> None:
    offered = inspect.signature(target_of(command)).parameters
    for field in option_fields(options):
        if (command, field.name) in OWN_PARAMETERS:
            continue
        [described] = offered[field.name].annotation.__metadata__
        assert described.help == field.option.help
        assert f"    {field.name}: {field.option.help}" in (options.__doc__ or "").splitlines()


@pytest.mark.parametrize("options", [options for _, options in OFFERED])
def test_every_field_is_an_option_or_known_not_to_be_one(options: type) -> None:
    described = {field.name for field in option_fields(options)}
    others = [field.name for field in fields(options) if field.name not in described]
    assert others == NOT_OFFERED.get(options, [])


def _parse_size(text: str) -> tuple[int, int]:
    if text.count("x") != 1:
        raise InvalidArgumentError(f"expected WIDTHxHEIGHT, got {text!r}")
    width, _, height = text.partition("x")
    return int(width), int(height)


@dataclass(frozen=True)
class Sample:
    """The options of a sample command, one of each kind."""

    name: Annotated[str, Option("Name of the product.", positional=True)]
    colour: Annotated[Literal["red", "blue"], Option("Colour of the product.")] = "red"
    max_items: Annotated[int, Option("Maximum number of items.", min=1, max=9)] = 3
    share: Annotated[float, Option("Share of items, above 0.", above=0, max=1)] = 0.5
    fast: Annotated[bool, Option("Skip the slow checks.")] = False
    check: Annotated[bool, Option("Check the items.")] = True
    size: Annotated[tuple[int, int] | None, Option("Width and height, such as 3x4.", parse=_parse_size)] = None
    folders: Annotated[tuple[Path, ...], Option("Folder to read. Repeat for more.", flags=("--folder", "-f"))] = ()
    kinds: Annotated[Sequence[Literal["text", "image"]], Option("Kind of items to count. Repeat for more.")] = ()
    secret: Annotated[str | None, Option("Password of the server.", envvar="SAMPLE_SECRET")] = None

    def __post_init__(self) -> None:
        check_values(self)


def run(options: Any, *arguments: str) -> tuple[int, Any]:
    """Run a command that takes the given class of options. Return the exit code and the arguments that it received."""
    got: list[Any] = []

    def command(options: Any, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        got.append((options, as_json))

    command.__annotations__["options"] = options
    app = typer.Typer(add_completion=False)
    app.command()(expand_options(command))
    try:
        app(arguments, standalone_mode=True)
    except SystemExit as end:
        return int(end.code or 0), got[0] if got else None
    raise AssertionError("the command line always ends with an exit code")


def test_without_arguments_the_command_gets_the_defaults() -> None:
    assert run(Sample, "x") == (0, (Sample("x"), False))


def test_every_kind_of_value_reaches_the_dataclass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_SECRET", "s3cret")
    given = [
        *("x", "--colour", "blue", "--max-items", "9", "--share", "1", "--fast", "--no-check", "--size", "3x4"),
        *("--folder", "a", "-f", "b", "--kinds", "image", "--kinds", "text", "--json"),
    ]
    wanted = Sample("x", "blue", 9, 1.0, True, False, (3, 4), (Path("a"), Path("b")), ("image", "text"), "s3cret")
    assert run(Sample, *given) == (0, (wanted, True))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--colour", "green"], "--colour"),
        (["--max-items", "10"], "--max-items"),
        (["--size", "3"], "'--size': expected WIDTHxHEIGHT, got '3'"),
        (["--no-fast"], "--no-fast"),
        ([], "name"),
    ],
)
def test_wrong_usage_names_the_option(
    given: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(Sample, *(["x"] if given else []), *given) == (2, None)
    assert message.lower() in capsys.readouterr().err.lower()


def test_the_dataclass_checks_what_the_command_line_cannot() -> None:
    for given, message in ((["--share", "0"], "share"), (["--share", "nan"], "share"), (["--kinds", "video"], "kinds")):
        with pytest.raises(InvalidArgumentError, match=f"{message}: expected"):
            run(Sample, "x", *given)


def test_a_new_field_is_offered_without_a_change_in_the_command_line() -> None:
    added = Annotated[int, Option("Number of retries; 0 means none.", min=0)]
    extended = make_dataclass("Extended", [("brand_new", added, 7)], bases=(Sample,), frozen=True)
    assert run(extended, "x")[1][0].brand_new == 7
    assert run(extended, "x", "--brand-new", "8")[1][0].brand_new == 8
    assert run(extended, "x", "--brand-new", "-1") == (2, None)


def test_the_help_shows_bounds_choices_and_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Sample, "--help")[0] == 0
    shown = capsys.readouterr().out
    for part in ("[1<=x<=9]", "[0<x<=1]", "red|blue", "text|image", "SAMPLE_SECRET", "--no-check", "Maximum number"):
        assert part in shown


def test_a_value_out_of_bounds_ends_a_real_command_with_a_sentence() -> None:
    refused = tuwen_here("train", "data", "-o", "out", "--kept-patches", "2", code=1).stderr
    assert refused == "tuwen: kept_patches: expected a finite number above 0 and at most 1, got 2.0\n"
