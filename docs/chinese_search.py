"""A hook of MkDocs that corrects how the theme's search divides a Chinese query into words.

Material for MkDocs 9 looks for the words of its index in the query, with two faults. First, it skips a word at the end
of the query: a search for 过载 (overload) finds every word that begins with 过. Second, it joins the words with a
wildcard, and so the search reports found words as missing. Remove this hook when the theme's function ``segment``
compares ``j <= query.length``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

__all__ = ["corrected", "on_post_build"]

_LOOP = re.compile(r"(for\(let (\w)=\w\+1;\2)<=?(\w\.length;\2\+\+\)\w\.slice\(\w,\2\)in \w)")
_JOIN = re.compile(r"(this\.index\.invertedIndex\)\]\.join\(\")\*? (\"\))")


def corrected(worker: str) -> str:
    """Return the source of the theme's search worker with both faults corrected.

    Raises:
        ValueError: the theme has changed, and its source does not have the two expected expressions.
    """
    worker, loops = _LOOP.subn(r"\1<=\3", worker)
    worker, joins = _JOIN.subn(r"\1 \2", worker)
    if (loops, joins) != (1, 1):
        raise ValueError(
            f"cannot correct the theme's search worker: expected 1 loop and 1 join, got {loops} and {joins}; if the "
            "theme now finds Chinese words at the end of a query, remove docs/chinese_search.py, else adapt it"
        )
    return worker


def on_post_build(config: MkDocsConfig) -> None:
    """Correct the search worker of the built site. MkDocs calls this function once for each language."""
    for path in Path(config.site_dir, "assets", "javascripts", "workers").glob("search.*.js"):
        path.write_text(corrected(path.read_text(encoding="utf-8")), encoding="utf-8")
