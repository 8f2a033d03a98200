"""Draw which package imports which into ``architecture.md`` and its Chinese twin, from the imports in the sources.

::

    python docs/draw_packages.py           # rewrite the picture
    python docs/draw_packages.py --check   # exit with 1 if the picture is out of date
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["drawing", "imports", "page_with"]

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "docs" / "architecture.md", ROOT / "docs" / "architecture.zh.md")
BEGIN, END = "<!-- packages -->", "<!-- end of packages -->"
SOURCES = ("client", "build", "loadtest")
SUBJECTS: Mapping[str, tuple[str, str]] = {
    "tuwen": ("the SDK", "SDK"),
    "tuwen_build": ("a checkpoint becomes a repository", "把权重变成仓库"),
    "tuwen_cli": ("the command line", "命令行"),
    "tuwen_edge": ("the HTTP edge", "HTTP 接口"),
    "tuwen_files": ("image folders, text files, tables of vectors", "图片文件夹、文本文件、向量表"),
    "tuwen_integrations": ("LangChain, LlamaIndex, Haystack", "LangChain、LlamaIndex、Haystack"),
    "tuwen_lab": ("data sets, training, evaluation, demo", "数据集、训练、评测、演示"),
    "tuwen_loadtest": ("load tests and benchmarks", "负载测试与性能测试"),
    "tuwen_options": ("options of commands", "命令的选项"),
    "tuwen_repository": ("the format of a repository", "仓库的格式"),
    "tuwen_search": ("collections and the search page", "集合与搜索页面"),
    "tuwen_server": ("a repository becomes a server", "把仓库变成服务器"),
}
"""The purpose of each package, in English and in Chinese."""


def packages() -> dict[str, Path]:
    """Return the folder of every package of the project, by the package's name."""
    found = (path.parent for source in SOURCES for path in (ROOT / source).glob("*/__init__.py"))
    return {folder.name: folder for folder in sorted(found, key=lambda folder: folder.name)}


def imports() -> dict[str, set[str]]:
    """Return the packages that each package imports, at the top of a module or inside a function."""
    known = packages()
    return {
        name: {imported for path in folder.rglob("*.py") for imported in _imported(path)} & set(known) - {name}
        for name, folder in known.items()
    }


def drawing(arrows: Mapping[str, set[str]], page: int = 0) -> str:
    """Return a Mermaid flow chart of the imports.

    An arrow is left out if other arrows lead to the same package through further packages.

    Args:
        arrows: the packages that each package imports, by the name of the importing package.
        page: 0 for the English page, 1 for the Chinese page.
    """
    lines = ["```mermaid", "flowchart TD"]
    lines += [f'    {name}["<b>{name}</b><br>{SUBJECTS[name][page]}"]' for name in arrows]
    for name, targets in arrows.items():
        indirect = {further for target in targets for further in _reached(arrows, target)}
        lines += [f"    {name} --> {target}" for target in sorted(targets - indirect)]
    return "\n".join([*lines, "```"])


def page_with(text: str, picture: str) -> str:
    """Return the text of a page in which the picture stands between the two markers."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{picture}\n{END}{rest.partition(END)[2]}"


def _reached(arrows: Mapping[str, set[str]], name: str) -> set[str]:
    return {further for target in arrows[name] for further in {target, *_reached(arrows, target)}}


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)


def main() -> int:
    """Rewrite the pages. With ``--check``, compare the pages instead, and return 1 if one is out of date."""
    arrows = imports()
    differs = False
    for index, page in enumerate(PAGES):
        text = page.read_text(encoding="utf-8")
        new = page_with(text, drawing(arrows, index))
        differs |= new != text
        if "--check" not in sys.argv[1:]:
            page.write_text(new, encoding="utf-8")
    return int(differs and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
