"""Write every public name with its signature into ``public_api.txt``.

::

    python docs/public_api.py           # rewrite the file
    python docs/public_api.py --check   # print the differences, and exit with 1 if there are any

After a change of a signature, a test fails until the file is rewritten. So the change is seen in review and named in
the changelog. ``CONTRIBUTING.md`` says what the project promises about these names.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import griffe

__all__ = ["MODULES", "main", "public_names"]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "public_api.txt"
SOURCES = tuple(ROOT / name for name in ("client", "build", "loadtest"))
MODULES = (
    "tuwen",
    "tuwen_files.quantization",
    "tuwen_files.ray_data",
    "tuwen.testing",
    "tuwen_build.repository",
    "tuwen_edge",
    "tuwen_files",
    "tuwen_integrations.haystack",
    "tuwen_integrations.langchain",
    "tuwen_integrations.llama_index",
    "tuwen_search",
    "tuwen_server",
)
# Special methods that a caller uses by name or by syntax. Other special methods come from a base class or a decorator.
SPECIAL = {"__aenter__", "__aiter__", "__anext__", "__call__", "__enter__", "__init__", "__iter__", "__len__"}


def public_names(modules: Sequence[str] = MODULES, sources: Sequence[Path] = SOURCES) -> list[str]:
    """Return a sorted line for every name that the modules export, and for every public member of their classes.

    Args:
        modules: the names of the modules. Each exports the names in its ``__all__``.
        sources: the folders that hold the top-level packages. The packages are read, not imported.
    """
    loader = griffe.GriffeLoader(search_paths=list(sources))
    for package in sorted({module.partition(".")[0] for module in modules}):
        loader.load(package)
    loader.resolve_aliases(implicit=True, external=False)
    lines: list[str] = []
    for name in modules:
        module = loader.modules_collection[name]
        for exported in module.exports or []:
            lines += _lines(f"{name}.{exported}", module[str(exported)])
    return sorted(lines)


def _lines(name: str, found: griffe.Object | griffe.Alias) -> Iterator[str]:
    if found.is_function:
        yield f"{'async ' if 'async' in found.labels else ''}{name}{_signature(found)}"
    elif found.is_class:
        bases = ", ".join(str(base) for base in found.bases)
        yield f"class {name}({bases})" if bases else f"class {name}"
        for member, inner in found.all_members.items():
            if member in SPECIAL or not member.startswith("_"):
                yield from _lines(f"{name}.{member}", inner)
    else:
        yield f"{name}{_value(found)}"


def _value(attribute: griffe.Object | griffe.Alias) -> str:
    annotation = getattr(attribute, "annotation", None)
    if annotation is not None and str(annotation) != "TypeAlias":
        return f": {annotation}"
    parent = getattr(attribute, "final_target", attribute).parent
    return f" = {attribute.value}" if parent is not None and parent.is_module else ""  # such as a union of types


def _signature(function: griffe.Object | griffe.Alias) -> str:
    shown, kind = [], None
    parameters = list(function.parameters)
    for position, parameter in enumerate(parameters):
        if parameter.kind is griffe.ParameterKind.keyword_only and kind not in (
            griffe.ParameterKind.keyword_only,
            griffe.ParameterKind.var_positional,
        ):
            shown.append("*")
        kind = parameter.kind
        shown.append(_parameter(parameter))
        after = parameters[position + 1].kind if position + 1 < len(parameters) else None
        if kind is griffe.ParameterKind.positional_only and after is not kind:
            shown.append("/")
    result = f" -> {function.returns}" if function.returns is not None else ""
    return f"({', '.join(shown)}){result}"


def _parameter(parameter: griffe.Parameter) -> str:
    stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}
    kind = parameter.kind
    text = f"{stars.get(kind, '')}{parameter.name}"
    if parameter.annotation is not None:
        text += f": {parameter.annotation}"
    if parameter.default is not None and kind not in stars:
        text += f" = {parameter.default}"
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the file. With ``--check``, print the differences instead, and return 1 if there are any."""
    new = public_names()
    if "--check" not in (sys.argv[1:] if arguments is None else arguments):
        PAGE.write_text("".join(f"{line}\n" for line in new), encoding="utf-8")
        return 0
    old = PAGE.read_text(encoding="utf-8").splitlines()
    changes = list(difflib.unified_diff(old, new, "docs/public_api.txt", "the sources", lineterm="", n=0))
    print("\n".join(changes), end="\n" if changes else "")
    return int(bool(changes))


if __name__ == "__main__":
    sys.exit(main())
