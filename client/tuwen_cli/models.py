"""`tuwen models`: list, load and unload the models of a running server, and set aliases."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tuwen_cli.connection import settings
from tuwen_cli.options import JsonOption, UrlOption, needs_extra, print_json, print_table

if TYPE_CHECKING:
    from tuwen_server import ModelAdministrator, ServedModel

__all__ = ["models"]

models = typer.Typer(
    help="List, load and unload the models of a running server, and switch aliases.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

NameArgument = Annotated[str, typer.Argument(help="Name of the model, as `tuwen build --name` gave it.")]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key", envvar="TUWEN_SERVER_KEY", help="Key of the server's restricted gRPC protocols.", metavar="KEY"
    ),
]
DrainOption = Annotated[
    float, typer.Option(min=0.1, help="Maximum time in seconds to finish requests in flight when a model is unloaded.")
]


@models.command("list")
def list_models(url: UrlOption = "localhost:8001", key: KeyOption = None, as_json: JsonOption = False) -> None:
    """List the models in the server's repositories, loaded or not, and the aliases.

    `tuwen status` lists the loaded models without the key.
    """
    with _administrator(url, key) as server:
        found = server.models()
    if as_json:
        print_json({"url": url, "models": [asdict(model) for model in found]})
        return
    rows = [[model.name or "(no name)", _state(model), model.fingerprint, model.checkpoint] for model in found]
    print_table("", ["model", "state", "fingerprint", "checkpoint"], rows)


@models.command()
def load(
    name: NameArgument, url: UrlOption = "localhost:8001", key: KeyOption = None, as_json: JsonOption = False
) -> None:
    """Load a model, and wait until it is ready. Other models answer requests meanwhile."""
    with _administrator(url, key) as server:
        _report(server.load(name), url, as_json=as_json)


@models.command()
def unload(
    name: NameArgument,
    url: UrlOption = "localhost:8001",
    drain_timeout: DrainOption = 60.0,
    key: KeyOption = None,
) -> None:
    """Unload a model, or remove an alias. Requests in flight are answered first."""
    with _administrator(url, key, drain_timeout) as server:
        server.unload(name)
    typer.echo(f"{name}: unloaded")


@models.command()
def alias(
    name: Annotated[str, typer.Argument(help="Name of the alias, such as shop.")],
    model: Annotated[str, typer.Argument(help="Name of the loaded model to which the alias will refer.")],
    url: UrlOption = "localhost:8001",
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a name an alias of a loaded model, or switch the alias to another model without a restart.

    Clients that are bound to an embedding space refuse vectors of another space. A restart of the server removes all
    aliases.
    """
    with _administrator(url, key) as server:
        _report(server.alias(name, model), url, as_json=as_json)


def _administrator(url: str, key: str | None, drain_timeout: float = 60.0) -> ModelAdministrator:
    with needs_extra("serve"):
        from tuwen_server import ModelAdministrator
    tls, headers = settings()
    return ModelAdministrator(url, key=key, tls=tls, headers=headers, timeout=drain_timeout)


def _report(model: ServedModel, url: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"url": url, **asdict(model)})
    else:
        typer.echo(f"{model.name}: {_state(model)}, fingerprint {model.fingerprint}")


def _state(model: ServedModel) -> str:
    return model.state if model.alias_of is None else f"alias of {model.alias_of or '(no name)'}, {model.state}"
