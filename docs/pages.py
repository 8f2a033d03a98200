"""Links, headings and code blocks of Markdown pages."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

__all__ = [
    "Block",
    "Link",
    "anchors",
    "blocks",
    "inline_code",
    "joined_lines",
    "links",
    "replace_links",
    "resolved",
    "tables",
    "with_anchors",
]

_FENCE = re.compile(r"^( *)(`{3,})(\w*)[^\n]*\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_CHINESE = r"\u3000-\u303f\u4e00-\u9fff\uff00-\uffef"
# Chinese at the start of a link or of bold text counts as well: 见\n[配置](configuration.zh.md)
_CHINESE_BREAK = re.compile(
    rf"(?<=[{_CHINESE})*])\n *(?=[\[*]{{0,3}}[{_CHINESE}])"
    r"|(?<=[，。；：、！？（）])\n *(?=[\w`\[])(?!```|\d+\. )"  # no space after a full-width punctuation mark
)
_INLINE_CODE = re.compile(r"`([^`]+)`")
_MARKUP = re.compile(r"[`*]|!?\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        line: the number of the line with the opening fence, from 1.
        language: the word after the fence, or an empty string.
        text: the lines between the fences.
    """

    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Link:
    """A link or a picture of a page.

    Attributes:
        text: the text of the link, or the description of the picture.
        target: the address or path to which the link leads.
        picture: whether the link shows a picture.
    """

    text: str
    target: str
    picture: bool

    @property
    def external(self) -> bool:
        """Whether the target is a full address, such as ``https://...``, and not a path."""
        return bool(re.match(r"[a-z]+:", self.target))

    def __str__(self) -> str:
        return f"{'!' if self.picture else ''}[{self.text}]({self.target})"


def blocks(text: str) -> Iterator[Block]:
    """Return the fenced code blocks of a page, in order."""
    for found in _FENCE.finditer(text):
        yield Block(text.count("\n", 0, found.start()) + 1, found[3], found[4])


def tables(text: str) -> list[list[str]]:
    """Return the lines of each table of a page, in order. Tables in code blocks are left out."""
    found: list[list[str]] = [[]]
    for line in _FENCE.sub("", text).splitlines():
        if line.startswith("|"):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def inline_code(text: str) -> list[str]:
    """Return the texts between backquotes, outside code blocks and in order. Runs of spaces become single spaces."""
    return [" ".join(code.split()) for code in _INLINE_CODE.findall(_FENCE.sub("", text))]


def links(text: str) -> list[Link]:
    """Return the links and pictures of a page outside its code blocks, in order."""
    found: list[Link] = []
    replace_links(text, lambda link: found.append(link) or str(link))
    return found


def replace_links(text: str, replacement: Callable[[Link], str]) -> str:
    """Return the page with new links outside code blocks. `replacement` returns the new text of a link."""

    def replaced(prose: str) -> str:
        return _LINK.sub(lambda found: replacement(Link(found[2], found[3], bool(found[1]))), prose)

    return _outside_blocks(text, replaced)


def anchors(text: str) -> list[str]:
    """Return the anchor of each heading of a page in order, as GitHub and our site derive it from the heading."""
    return [_anchor(heading[1]) for heading in _HEADING.finditer(_FENCE.sub("", text))]


def with_anchors(text: str, names: Sequence[str]) -> str:
    """Return the page with these names, in order, as the anchors of its headings, in MkDocs' notation."""
    remaining = iter(names)

    def named(prose: str) -> str:
        return _HEADING.sub(lambda heading: f"{heading[0].rstrip()} {{: #{next(remaining)} }}", prose)

    return _outside_blocks(text, named)


def joined_lines(text: str) -> str:
    """Return the page without line breaks between Chinese characters, which a browser would show as spaces."""
    return _outside_blocks(text, lambda prose: _CHINESE_BREAK.sub("", prose))


def _anchor(heading: str) -> str:
    words = _MARKUP.sub(lambda markup: markup[1] or "", heading)
    return re.sub(r"[^\w\- ]", "", words.lower()).strip().replace(" ", "-")


def _outside_blocks(text: str, change: Callable[[str], str]) -> str:
    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(text[end:])])


def resolved(page: str, target: str) -> str:
    """Return the path to which a relative link of a page leads, without the anchor.

    The path of the page and the result are relative to the root of the repository.
    """
    path = target.partition("#")[0]
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
