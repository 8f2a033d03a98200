"""Print a random sample of the project's docstrings, errors, help texts and other prose, to be read by a person.

::

    python docs/sample_prose.py --seed 7                         # 60 docstrings, 40 errors, 40 help texts
    python docs/sample_prose.py --seed 7 --count comment=40      # other kinds
    python docs/sample_prose.py --all client/tuwen_files         # everything of one folder, in order

Read the sample without the code beside it. If a sentence must be read twice, rewrite every sentence of its kind, and
read a sample with another seed.
"""

from __future__ import annotations

import argparse
import ast
import io
import random
import re
import subprocess
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["COUNTS", "KINDS", "Passage", "main", "passages", "sample"]

ROOT = Path(__file__).parents[1]
KINDS = ("docstring", "error", "help", "message", "comment", "test")
COUNTS = {"docstring": 60, "error": 40, "help": 40}
_CONFIGS = (".toml", ".yaml", ".yml", ".pbtxt", ".sh", ".conf", ".tpl", ".txt")
_CONFIG_NAMES = ("Makefile", "Dockerfile", ".editorconfig", ".gitignore", ".dockerignore")
_COMMENT = re.compile(r"(?:^|\s)#+ +(.+)$")
_WORDS = re.compile(r"[A-Za-z]+(?: [A-Za-z{']+){2}")


@dataclass(frozen=True)
class Passage:
    """A piece of prose in a source file.

    Attributes:
        kind: one of `KINDS`.
        path: the path of the file, relative to the repository's root.
        line: the number of the first line, from 1.
        owner: the function, class or module that the prose belongs to.
        text: the prose. Values that the program fills in stand in braces.
    """

    kind: str
    path: str
    line: int
    owner: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.kind} {self.owner}\n    " + self.text.replace("\n", "\n    ")


def passages(path: str, source: str) -> list[Passage]:
    """Return all passages of prose in a file, in the order of their lines."""
    found = _Reader(path).read(source) if path.endswith(".py") else [*_config_comments(path, source)]
    return sorted(found, key=lambda passage: (passage.line, passage.kind))


def sample(pool: Sequence[Passage], seed: int, counts: dict[str, int]) -> list[Passage]:
    """Return passages drawn at random, as many of each kind as `counts` says. A seed always draws the same passages."""
    chosen: list[Passage] = []
    for kind, count in counts.items():
        of_kind = [passage for passage in pool if passage.kind == kind]
        chosen += random.Random(f"{seed} {kind}").sample(of_kind, min(count, len(of_kind)))  # noqa: S311
    return chosen


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a sample of the prose, or all prose, of some files and folders, as the arguments say."""
    parser = argparse.ArgumentParser(description="Print a random sample of the project's prose.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the random choice.")
    parser.add_argument(
        "--count",
        action="append",
        default=[],
        metavar="KIND=NUMBER",
        help=f"Number of passages of a kind, one of {', '.join(KINDS)}. Repeat the option for more kinds.",
    )
    parser.add_argument("--all", action="store_true", help="Print everything instead of a sample.")
    parser.add_argument("paths", nargs="*", default=["."], help="Files and folders. Default: the repository.")
    options = parser.parse_args(arguments)
    counts = {kind: int(number) for kind, _, number in (text.partition("=") for text in options.count)} or COUNTS
    if unknown := counts.keys() - set(KINDS):
        parser.error(f"--count: expected one of {', '.join(KINDS)}, got {', '.join(sorted(unknown))}")
    pool = [passage for path in _files(options.paths) for passage in passages(path, (ROOT / path).read_text("utf-8"))]
    chosen = [passage for passage in pool if not options.count or passage.kind in counts]
    for passage in chosen if options.all else sample(pool, options.seed, counts):
        print(passage, end="\n\n")


def _files(paths: Sequence[str]) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--", *paths],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.splitlines()
    return [path for path in listed if path.endswith((".py", *_CONFIGS)) or Path(path).name in _CONFIG_NAMES]


def _config_comments(path: str, source: str) -> Iterator[Passage]:
    for number, line in enumerate(source.splitlines(), 1):
        if found := _COMMENT.search(line):
            yield Passage("comment", path, number, "", found[1])


class _Reader:
    def __init__(self, path: str) -> None:
        self._path = path
        self._found: list[Passage] = []
        self._taken: set[int] = set()

    def read(self, source: str) -> list[Passage]:
        """Return the prose of a Python file, in no particular order."""
        tree = ast.parse(source)
        self._visit(tree, Path(self._path).stem)
        self._comments(source)
        return self._found

    def _add(self, kind: str, node: ast.AST, owner: str, text: str) -> None:
        self._found.append(Passage(kind, self._path, getattr(node, "lineno", 1), owner, text.strip()))

    def _visit(self, node: ast.AST, owner: str) -> None:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            owner = getattr(node, "name", owner)
            if owner.startswith("test_") and not isinstance(node, ast.Module):
                self._add("test", node, owner, owner.replace("_", " "))
            if node.body and (text := _docstring(node.body[0])):
                self._taken.add(id(node.body[0].value))  # type: ignore[attr-defined]
                self._add("docstring", node.body[0], owner, text)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            self._strings("error", node.exc, owner)
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg == "help":
                    self._strings("help", keyword.value, owner)
            if _name(node.func) == "Option" and node.args:
                self._strings("help", node.args[0], owner)
        if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in self._taken:
            self._strings("message", node, owner)
        for child in ast.iter_child_nodes(node):
            self._visit(child, owner)

    def _strings(self, kind: str, node: ast.AST, owner: str) -> None:
        """Add the strings of an expression as passages of a kind, unless they were added as another kind before."""
        if id(node) in self._taken:
            return
        if isinstance(node, ast.Constant | ast.JoinedStr):
            self._taken.update(map(id, ast.walk(node)))
            text = _text(node)
            if (kind == "help" and not text.startswith("-")) or _WORDS.search(text):  # skips names of options
                self._add(kind, node, owner, text)
            return
        for child in ast.iter_child_nodes(node):
            self._strings(kind, child, owner)

    def _comments(self, source: str) -> None:
        lines: list[str] = []
        start = end = 0
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type != tokenize.COMMENT or re.match(r"# ?(noqa|type:|pragma)", token.string):
                continue
            if token.start[0] != end + 1 and lines:
                self._found.append(Passage("comment", self._path, start, "", "\n".join(lines)))
                lines = []
            if not lines:
                start = token.start[0]
            lines.append(token.string.lstrip("# "))
            end = token.start[0]
        if lines:
            self._found.append(Passage("comment", self._path, start, "", "\n".join(lines)))


def _docstring(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return statement.value.value if isinstance(statement.value.value, str) else ""
    return ""


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _text(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(
        _text(part) if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}"
        for part in node.values
        if isinstance(part, ast.Constant | ast.FormattedValue)
    )


if __name__ == "__main__":
    main()
