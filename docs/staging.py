"""Collect the pages of the site in ``.cache/docs/pages``, where MkDocs reads them.

The site has three kinds of pages: the pages of this folder, other files of the repository (under ``repository/``), and
the reference of the command line, which Typer writes. The other files are pages and pictures that a page links to.
``make docs`` runs this module and then MkDocs.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from docs.pages import Link, anchors, joined_lines, links, replace_links, resolved, with_anchors

__all__ = ["command_line", "linked_pages", "main", "site_page", "translated_anchors", "translated_page"]

_ROOT = Path(__file__).resolve().parents[1]
_OUTPUT = _ROOT / ".cache" / "docs" / "pages"
_MERMAID = _ROOT / ".cache" / "docs" / "mermaid.min.js"
_PICTURES = {".png", ".svg"}
_COPIED = {".css", *_PICTURES}


def linked_pages(pages: Mapping[str, str], root: Path = _ROOT) -> dict[str, str | None]:
    """Return the files outside ``docs/`` to which the pages link, directly or through other pages.

    Args:
        pages: the text of each page of ``docs/``, by the path of the page from the root.
        root: the root folder of the repository.

    Returns:
        the text of each Markdown page and of its translation, and None for each picture, by the path from the root.
    """
    found: dict[str, str | None] = {}
    pending = dict(pages)
    while pending:
        page, text = pending.popitem()
        for link in links(text):
            path = resolved(page, link.target)
            if link.external or path.startswith("docs/") or path in found or not (root / path).is_file():
                continue
            if path.endswith(".md"):
                for name in {path, path.replace(".zh.md", ".md"), path.removesuffix(".md") + ".zh.md"} - set(found):
                    if (root / name).is_file():
                        found[name] = pending[name] = (root / name).read_text(encoding="utf-8")
            elif PurePosixPath(path).suffix in _PICTURES:
                found[path] = None
    return found


def site_page(page: str, text: str, linked: Iterable[str], renamed: Mapping[str, Mapping[str, str]]) -> str:
    """Return the text of a page with links that work on the site.

    A link to a file that is not on the site, such as a module or a folder, becomes plain text. So does a picture on
    another host, because the site fetches nothing from other hosts.

    Args:
        page: the path of the page from the root.
        text: the text of the page.
        linked: the paths of the files outside ``docs/`` that are on the site.
        renamed: the `translated_anchors` of each translated page, by the path of the page from the root.
    """
    known = set(linked)

    def replacement(link: Link) -> str:
        path = resolved(page, link.target)
        if link.external:
            return link.text if link.picture else str(link)
        own = path.startswith("docs/") and PurePosixPath(path).suffix in {".md", *_COPIED}
        if not own and path not in known and path != page:
            return link.text
        name, mark, anchor = link.target.partition("#")
        anchor = renamed.get(path, {}).get(anchor, anchor)
        target = (_relative(_place(page), _place(path)) if name else "") + mark + anchor
        return str(Link(link.text, target, link.picture))

    return replace_links(text, replacement)


def translated_anchors(text: str, original: str) -> dict[str, str]:
    """Return the English anchor of each heading of a Chinese page, by its Chinese anchor.

    Raises:
        ValueError: the pages do not have the same number of headings.
    """
    own, names = anchors(text), anchors(original)
    if len(own) != len(names):
        raise ValueError(f"expected {len(names)} headings as in the original, got {len(own)} in the translation: {own}")
    return dict(zip(own, names, strict=True))


def translated_page(text: str, original: str) -> str:
    """Return a Chinese page whose headings have the anchors of the English page, so that one link fits both pages.

    Raises:
        ValueError: the pages do not have the same number of headings.
    """
    return with_anchors(joined_lines(text), list(translated_anchors(text, original).values()))


def command_line() -> str:
    """Return the reference of every command in Markdown, as Typer writes it."""
    from typer.cli import get_docs_for_click  # noqa: PLC0415
    from typer.main import get_command  # noqa: PLC0415

    command = get_command(importlib.import_module("tuwen_cli.main")._app)
    context = command.context_class(command, info_name="tuwen")
    return get_docs_for_click(obj=command, ctx=context, name="tuwen", title="The command line")


def _place(path: str) -> PurePosixPath:
    """Return the path of a file on the site, from its path in the repository."""
    return PurePosixPath(path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}")


def _relative(page: PurePosixPath, target: PurePosixPath) -> str:
    common = 0
    while common < len(page.parts) - 1 and page.parts[common] == target.parts[common]:
        common += 1
    return "/".join([*[".."] * (len(page.parts) - 1 - common), *target.parts[common:]])


def main() -> None:
    """Remove the staged folder, and write it again from the pages of the repository."""
    files = [path for path in (_ROOT / "docs").rglob("*") if path.is_file()]
    pages = {
        path.relative_to(_ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files if path.suffix == ".md"
    }
    linked = linked_pages(pages)
    pages |= {path: text for path, text in linked.items() if text is not None}
    translations = {page: page.replace(".zh.md", ".md") for page in pages if page.endswith(".zh.md")}
    renamed = {page: translated_anchors(pages[page], pages[original]) for page, original in translations.items()}
    pages |= {page: translated_page(pages[page], pages[original]) for page, original in translations.items()}
    shutil.rmtree(_OUTPUT, ignore_errors=True)
    copied = [path.relative_to(_ROOT).as_posix() for path in files if path.suffix in _COPIED]
    copied += [path for path, text in linked.items() if text is None]
    for path in copied:
        target = _OUTPUT / _place(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_ROOT / path, target)
    for page, text in pages.items():
        target = _OUTPUT / _place(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(site_page(page, text, linked, renamed), encoding="utf-8")
    (_OUTPUT / "reference" / "command-line.md").write_text(command_line(), encoding="utf-8")
    shutil.copyfile(_MERMAID, _OUTPUT / "assets" / "mermaid.min.js")


if __name__ == "__main__":
    main()
