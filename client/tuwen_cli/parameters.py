"""The parameters of a command, derived from its dataclasses of options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass, replace
from functools import wraps
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from tuwen import InvalidArgumentError
from tuwen_options import REQUIRED, Option, OptionField, option_fields

__all__ = ["expand_options", "typer_option"]


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter that is a dataclass of options by one parameter for each option.

    This is a decorator. The command receives dataclasses that are filled from the options. If the command has a
    parameter with the name of an option, this parameter replaces the option, and the field of the dataclass keeps its
    default value. An example::

        @expand_options
        def tune(repository: Annotated[Path, typer.Argument()], options: TuningOptions) -> None: ...
    """
    parameters: list[inspect.Parameter] = []
    dataclasses: dict[str, Sequence[OptionField]] = {}
    types: dict[str, type] = {}
    own = inspect.signature(command, eval_str=True).parameters
    for name, parameter in own.items():
        if is_dataclass(parameter.annotation):
            types[name] = parameter.annotation  # type: ignore[assignment]
            dataclasses[name] = [field for field in option_fields(types[name]) if field.name not in own]
            parameters += map(_parameter, dataclasses[name])
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def run(**values: Any) -> None:
        for name, described in dataclasses.items():
            values[name] = types[name](**{field.name: _value(field, values.pop(field.name)) for field in described})
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def typer_option(option: Option) -> Any:
    """Return Typer's description of an option, for the annotation of a command's parameter."""
    settings: dict[str, Any] = {
        "help": option.help,
        "metavar": option.metavar,
        "envvar": option.envvar,
        "show_default": option.show_default,
    }
    if option.positional:
        return typer.Argument(**settings)
    if option.above is None and option.below is None:
        settings |= {"min": option.min, "max": option.max}
    else:  # Typer has no exclusive bounds, so the help shows the bounds, and the dataclass checks the value
        settings["metavar"] = f"<float> [{_interval(option)}]"
    return typer.Option(*option.flags, **settings)


def _interval(option: Option) -> str:
    lower = (option.min, "<=") if option.above is None else (option.above, "<")
    upper = (option.max, "<=") if option.below is None else (option.below, "<")
    if upper[0] is None:
        return f"x{lower[1].replace('<', '>')}{lower[0]}"
    return f"x{upper[1]}{upper[0]}" if lower[0] is None else f"{lower[0]}{lower[1]}x{upper[1]}{upper[0]}"


def _parameter(field: OptionField) -> inspect.Parameter:
    option, default = field.option, field.default
    kind = field.type
    if option.parse is not None:
        kind, default = str | None, None if default in (None, ()) else default
    elif field.item_type is not None:
        kind = list[field.item_type if isinstance(field.item_type, type) else str]  # type: ignore[misc]
        if get_origin(field.item_type) is Literal:  # Typer has no options with several choices
            option = replace(option, metavar=f"<{'|'.join(get_args(field.item_type))}>")
    if default is False and not option.flags:  # with an explicit flag, Typer does not add --no-...
        option = replace(option, flags=(_flag(field),))
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is REQUIRED else default,
        annotation=Annotated[kind, typer_option(option)],
    )


def _value(field: OptionField, given: Any) -> Any:
    """Convert the user's input to the value of a dataclass's field."""
    if field.option.parse is not None:
        if given is None:
            return field.default
        try:
            return field.option.parse(given)
        except InvalidArgumentError as error:
            raise typer.BadParameter(str(error), param_hint=f"'{_flag(field)}'") from error
    return tuple(given or ()) if field.item_type is not None else given


def _flag(field: OptionField) -> str:
    return (field.option.flags or (f"--{field.name.replace('_', '-')}",))[0]
