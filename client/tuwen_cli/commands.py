"""The commands by name. To let tuwen start fast, the module of a command is imported when the command is used."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ["SETTINGS", "CommandGroup", "target_of"]

SETTINGS: Mapping[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": "markdown",
}
"""The settings of Typer, for the whole program and for each command."""

# The commands in the order of the help. A value names a module and, after the dot, its function or group of commands.
_TARGETS: Mapping[str, str] = {
    "build": "build.build",
    "serve": "serve.serve",
    "server": "server.server",
    "status": "status.status",
    "models": "models.models",
    "probe": "probe.probe",
    "doctor": "doctor.doctor",
    "embed": "embed.embed",
    "similarity": "similarity.similarity",
    "classify": "classify.classify",
    "calibrate": "calibrate.calibrate",
    "index": "index.index",
    "search": "search.search",
    "duplicates": "duplicates.duplicates",
    "migrate": "migrate.migrate",
    "web": "web.web",
    "edge": "edge.edge",
    "edge-key": "edge.edge_key",
    "tune": "tune.tune",
    "loadtest": "loadtest.loadtest",
    "train": "train.train",
    "settings": "settings.settings",
    "collections": "collections.collections",
    "dataset": "dataset.dataset",
    "evaluate": "evaluate.evaluate",
}


def target_of(name: str) -> Any:
    """Import the module of a command, and return its function, or its `typer.Typer` if it is a group of commands."""
    module, _, target = _TARGETS[name].partition(".")
    return getattr(import_module(f"tuwen_cli.{module}"), target)


class CommandGroup(TyperGroup):
    """The group of all commands. It prints the overview of the commands without importing their modules."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._imported = _Commands()
        self.commands = self._imported

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Return the names of all commands."""
        return list(_TARGETS)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help with a summary of each command."""
        self.commands = {name: TyperCommand(name, help=_summary_of(name)) for name in _TARGETS}
        try:
            super().format_help(ctx, formatter)
        finally:
            self.commands = self._imported


class _Commands(MutableMapping[str, Any]):
    """The commands by name. Each command is made when it is first used."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in _TARGETS:
            raise KeyError(name)
        if name not in self._made:
            program, target = typer.Typer(**SETTINGS), target_of(name)
            if isinstance(target, typer.Typer):
                program.add_typer(target, name=name)
            else:
                program.command(name)(target)
            group: Any = typer.main.get_group(program)
            self._made[name] = group.commands[name]
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_TARGETS)

    def __len__(self) -> int:
        return len(_TARGETS)


def _summary_of(name: str) -> str:
    """Return the help text of a command from the source of its module, without importing the module."""
    module, _, target = _TARGETS[name].partition(".")
    source = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == target:
            return ast.get_docstring(node) or ""
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and ast.unparse(node.targets[0]) == target:
            return str(next(ast.literal_eval(word.value) for word in node.value.keywords if word.arg == "help"))
    raise LookupError(
        f"cannot show the help of `tuwen {name}`: expected a function or a group {target!r} in the module {module!r}"
    )
