"""Write every error message of the packages into ``reference/error-messages.md``.

::

    python docs/error_table.py           # rewrite the page
    python docs/error_table.py --check   # exit with 1 if the page is out of date

The messages come from every place in the sources that makes an error. The example of each error is the message of an
error that a call raised.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # as a script, this file does not find the package `docs` by itself
    sys.path.insert(0, str(Path(__file__).parents[1]))

from docs.error_examples import EXAMPLES, Example

__all__ = ["PAGE", "ErrorSite", "error_classes", "error_sites", "main", "page", "raised"]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "error-messages.md"
_SOURCES = ("client", "build", "loadtest", "model_repository")
_ROOTS = {"TuwenError", "EdgeError", "ItemError"}
_HEAD = """# Error messages

Every message of an error that tuwen raises on purpose. [Errors](errors.md) describes the classes. Words in braces stand
for values. `python docs/error_table.py` writes this page from the sources, and a test compares it.
"""


@dataclass(frozen=True)
class ErrorSite:
    """A place in the sources that makes an error.

    Attributes:
        error: the name of the error class.
        module: the path of the module below its source folder, such as ``tuwen/_client.py``.
        message: the message, with values in braces; empty if the place passes on a message as a variable.
    """

    error: str
    module: str
    message: str


def error_classes() -> dict[str, tuple[str, ...]]:
    """Return each error class with the names of its base classes, in the order of the sources."""
    found: dict[str, tuple[str, ...]] = {}
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name] = tuple(base.id for base in node.bases if isinstance(base, ast.Name))

    def ours(name: str) -> bool:
        return name in _ROOTS or any(ours(base) for base in found.get(name, ()))

    return {name: bases for name, bases in found.items() if not name.startswith("_") and ours(name)}


def error_sites() -> list[ErrorSite]:
    """Return every place that makes an error, sorted by class and module."""
    classes = error_classes()
    found = set()
    for path in _modules():
        module = path.relative_to(ROOT).as_posix().partition("/")[2]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes:
                found.add(ErrorSite(node.func.id, module, _message(node.args)))
    order = {name: index for index, name in enumerate(classes)}
    return sorted(found, key=lambda site: (order[site.error], site.module, site.message))


def raised(example: Example) -> Exception:
    """Return the error that the call of an example raises.

    Raises:
        AssertionError: the call raises no error.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            example.call(Path(folder))
        except Exception as error:
            error.folder = folder  # type: ignore[attr-defined]
            return error
    raise AssertionError(f"expected {example.error} from the call of its example, but the call raised no error")


def page() -> str:
    """Return the text of the page of error messages."""
    sites = error_sites()
    lines = [_HEAD]
    for example in EXAMPLES:
        error = raised(example)
        shown = str(error).replace(error.folder, "/data")  # type: ignore[attr-defined]
        lines += [
            f"## {example.error}\n",
            "```text",
            *(line.rstrip() for line in shown.splitlines()),
            "```\n",
            f"{example.remedy} {'A retry can help.' if example.retry else 'A retry does not help.'}\n",
        ]
        rows = [(_cell(site.message), site.module) for site in sites if site.error == example.error and site.message]
        if rows:
            lines += ["| message | module |", "|---|---|", *(f"| {text} | `{module}` |" for text, module in rows), ""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the page. With ``--check``, compare the page instead, and return 1 if it is out of date."""
    parser = argparse.ArgumentParser(description="Write every error message into docs/reference/error-messages.md.")
    parser.add_argument("--check", action="store_true", help="Exit with 1 if the page is out of date.")
    written, current = page(), PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    if parser.parse_args(arguments).check:
        if written != current:
            print("docs/reference/error-messages.md is out of date; run: python docs/error_table.py")
        return int(written != current)
    PAGE.write_text(written, encoding="utf-8")
    return 0


def _modules() -> list[Path]:
    return sorted(path for folder in _SOURCES for path in (ROOT / folder).rglob("*.py"))


def _message(arguments: Sequence[ast.expr]) -> str:
    for argument in arguments:
        texts = [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]
        shown = [text for text in map(_text, texts) if " " in text]
        if shown:
            return " / ".join(shown)
    return ""


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if not isinstance(node, ast.JoinedStr):
        return ""
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else f"{{{_name(part.value)}}}"
        for part in node.values
        if isinstance(part, ast.Constant | ast.FormattedValue)
    )


def _name(value: ast.expr) -> str:
    """Return a short name for the expression of a value, such as ``path`` for ``self._path``."""
    names = [node.attr if isinstance(node, ast.Attribute) else node.id for node in _named(value)]
    return names[0].strip("_") if names else "..."


def _named(value: ast.expr) -> list[ast.Attribute | ast.Name]:
    if isinstance(value, ast.Attribute | ast.Name):
        return [value]
    if isinstance(value, ast.Call) and value.args:
        return _named(value.args[0])
    return [node for node in ast.walk(value) if isinstance(node, ast.Name)]


def _cell(text: str) -> str:
    escaped = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("`", "'")
    return f"`{escaped}`"


if __name__ == "__main__":
    sys.exit(main())
