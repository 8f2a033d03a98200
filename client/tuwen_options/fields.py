"""The classes and functions that describe an option beside the dataclass field that holds its value.

A dataclass of options describes each option once::

    @documented
    @dataclass(frozen=True)
    class BuildOptions:
        max_batch_size: Annotated[int, Option("Maximum number of items in one batch.", min=1, max=1024)] = 32

        def __post_init__(self) -> None:
            check_values(self)

The command line, the docstring and the validation are made from these fields.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from math import inf
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tuwen import InvalidArgumentError, TuwenError

__all__ = [
    "MODEL",
    "REQUIRED",
    "TIMEOUT",
    "URL",
    "Option",
    "OptionField",
    "check_values",
    "documented",
    "option_fields",
]

_Class = TypeVar("_Class", bound=type)

REQUIRED: Any = MISSING
"""The value of `OptionField.default` for a field without a default."""


@dataclass(frozen=True)
class Option:
    """The description of one option.

    Attributes:
        help: the meaning of the option, for the command line's help and the docstring of the dataclass.
        min: the smallest allowed number; None: no limit.
        max: the largest allowed number; None: no limit.
        above: a number that the value must exceed; None: no limit.
        below: a number that the value must stay below; None: no limit.
        flags: the names on the command line; empty: the field's name with dashes.
        positional: whether the command line takes the value as a positional argument instead of an option.
        metavar: the placeholder of the value in the help; None: the placeholder of the field's type.
        envvar: the environment variable that sets the value if the command line does not; None: no variable.
        show_default: whether the help shows the default.
        parse: a function that converts the text that a user types; None: the field's type decides the conversion.
    """

    help: str
    min: float | None = None
    max: float | None = None
    above: float | None = None
    below: float | None = None
    flags: tuple[str, ...] = ()
    positional: bool = False
    metavar: str | None = None
    envvar: str | None = None
    show_default: bool = True
    parse: Callable[[str], Any] | None = None


@dataclass(frozen=True)
class OptionField:
    """A field of a dataclass that has an option.

    Attributes:
        name: the field's name.
        type: the field's type, without the `Option` of its annotation.
        default: the field's default, or `REQUIRED` if the field has no default.
        option: the description of the option.
    """

    name: str
    type: Any
    default: Any
    option: Option

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that a `Literal` type allows; empty for any other type."""
        literals = [part for part in _parts(self.type) if get_origin(part) is Literal]
        return tuple(choice for literal in literals for choice in get_args(literal))

    @property
    def item_type(self) -> Any:
        """The type of each item if the field holds a sequence of any length; None for any other type."""
        for part in _parts(self.type):
            arguments = get_args(part)
            if get_origin(part) is Sequence or (get_origin(part) is tuple and arguments[1:] == (...,)):
                return arguments[0]
        return None


URL = Option("host:port of the server's gRPC endpoint.", flags=("--url", "-u"), envvar="TUWEN_URL")
"""The option for the server's address, which all commands that call a server share."""
MODEL = Option(
    "Name of the model on a server with several models; `tuwen status` lists the names. Default: the unnamed model.",
    flags=("--model",),
    envvar="TUWEN_MODEL",
    show_default=False,
)
"""The option for the name of the model, which all commands that call a server share."""
TIMEOUT = Option("Maximum duration of a call in seconds.", min=0.001)
"""The option for the timeout of a call, which all commands that call a server share."""


@cache
def option_fields(options: type) -> tuple[OptionField, ...]:
    """Return the fields of a dataclass that have an option, in order."""
    hints = get_type_hints(options, include_extras=True)
    found = []
    for field in fields(options):
        described = [part for part in getattr(hints[field.name], "__metadata__", ()) if isinstance(part, Option)]
        if described:
            default = field.default if field.default_factory is MISSING else field.default_factory()
            found.append(OptionField(field.name, hints[field.name].__origin__, default, described[0]))
    return tuple(found)


def documented(options: _Class) -> _Class:
    """Add the help text of every option to the docstring of a dataclass. Use this function as a decorator."""
    lines = [f"    {field.name}: {field.option.help}" for field in option_fields(options)]
    options.__doc__ = "\n".join([(options.__doc__ or "").rstrip(), "", "Attributes:", *lines])
    return options


def check_values(options: Any, error: type[TuwenError] = InvalidArgumentError) -> None:
    """Check the values of a dataclass against its literal types and the bounds of its options.

    Args:
        options: an instance of the dataclass.
        error: the class of the error to raise if a value is not allowed. The message names the field.
    """
    for field in option_fields(options.__class__):
        value = getattr(options, field.name)
        if value is None:
            continue
        if field.choices and value not in field.choices:
            raise error(f"{field.name}: expected {_listed(field.choices)}, got {value!r}")
        if field.item_type is not None and get_origin(field.item_type) is Literal:
            known = get_args(field.item_type)
            for item in value:
                if item not in known:
                    raise error(f"{field.name}: expected {_listed(known)}, got {item!r}")
        if isinstance(value, int | float) and not isinstance(value, bool) and not _in_bounds(value, field.option):
            raise error(f"{field.name}: expected {_bounds_of(field)}, got {value!r}")


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _listed(choices: Collection[str]) -> str:
    return f"one of {', '.join(choices)}"


def _in_bounds(value: float, option: Option) -> bool:
    return (
        -inf < value < inf
        and (option.min is None or value >= option.min)
        and (option.max is None or value <= option.max)
        and (option.above is None or value > option.above)
        and (option.below is None or value < option.below)
    )


def _bounds_of(field: OptionField) -> str:
    option = field.option
    if option.min is not None and option.max is not None:
        bounds = [f"from {option.min:,} to {option.max:,}"]
    else:
        words = (
            ("of at least", option.min),
            ("above", option.above),
            ("at most", option.max),
            ("below", option.below),
        )
        bounds = [f"{word} {bound:,}" for word, bound in words if bound is not None]
    kind = "a finite number" if float in _parts(field.type) else "a number"
    return " ".join([kind, " and ".join(bounds)]).strip()
