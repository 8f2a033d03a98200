"""Run the Python blocks of a documentation page about a framework or a database, in order, in the current folder.

`tests/service/test_connect_pages.py` runs this in an environment of `tests/environments.sh frameworks weaviate`::

    python page_blocks.py PAGE HOST:PORT EDGE

HOST:PORT replaces the server's address in the page. A fake server of `database_stand_ins` replaces each database that
the page connects to. EDGE is the address of an HTTP edge, from which the fake Weaviate server gets its vectors.
"""

from __future__ import annotations

import ast
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from docs.pages import blocks
from tests.reference.database_stand_ins import search_engine, weaviate


def main() -> None:
    page, url, edge = sys.argv[1:]
    text = Path(page).read_text(encoding="utf-8")
    with ExitStack() as stack:
        replaced = {"localhost:8001": url}
        if "localhost:9200" in text:
            replaced["localhost:9200"] = stack.enter_context(search_engine(elastic="import Elasticsearch" in text))
        if "connect_to_local()" in text:
            http, grpc = stack.enter_context(weaviate(edge))
            replaced["connect_to_local()"] = f"connect_to_local(port={http}, grpc_port={grpc})"
        namespace: dict[str, Any] = {"__name__": "page"}
        for block in blocks(text):
            if block.language == "python":
                source = block.text
                for old, new in replaced.items():
                    source = source.replace(old, new)
                tree = ast.parse("\n" * block.line + source, page)
                exec(compile(tree, page, "exec"), namespace)


if __name__ == "__main__":
    main()
