"""Write the README of the Helm chart from `Chart.yaml` and the comments of `values.yaml`, in the format of helm-docs.

::

    python docs/chart_readme.py           # rewrite docker/kubernetes/README.md
    python docs/chart_readme.py --check   # exit with 1 if the page is out of date
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

__all__ = ["PAGE", "readme", "rows"]

_CHART = Path(__file__).parents[1] / "docker" / "kubernetes"
PAGE = _CHART / "README.md"
_TYPES = {bool: "bool", int: "int", float: "float", str: "string", list: "list", dict: "object"}
_COMMENT = re.compile(r"^ *# ?(.*)$")
_TRAILING = re.compile(r"(?:\"[^\"]*\"|[^\"#])*? {2}# (.*)$")


def rows(values: str) -> Iterator[tuple[str, str, str, str]]:
    """Return the key, type, default and description of every value, in the order of the file.

    The description joins the comment above the value and the comment at the end of its line. An object in braces counts
    as one value.

    Args:
        values: the text of a `values.yaml`.
    """
    yield from _rows(yaml.compose(values), values.splitlines(), "")


def _rows(mapping: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for key, node in mapping.value:
        name = f"{prefix}{key.value}"
        description = _description(lines, key.start_mark.line)
        if isinstance(node, yaml.MappingNode) and not node.flow_style:
            if description:
                yield name, "object", "see below", description
            yield from _rows(node, lines, f"{name}.")
            continue
        value: Any = yaml.safe_load(yaml.serialize(node))
        yield name, _TYPES[type(value)], f"`{json.dumps(value, ensure_ascii=False)}`", description


def _description(lines: list[str], index: int) -> str:
    above: list[str] = []
    for line in reversed(lines[:index]):
        comment = _COMMENT.match(line)
        if comment is None or _indent(line) != _indent(lines[index]):
            break
        above.insert(0, comment[1])
    trailing = _TRAILING.match(lines[index])
    return " ".join([*above, *([trailing[1]] if trailing else [])]).strip().replace("|", "\\|")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def readme(chart: str, values: str) -> str:
    """Return the text of a chart's README.

    Args:
        chart: the text of the chart's `Chart.yaml`.
        values: the text of the chart's `values.yaml`.
    """
    about = yaml.safe_load(chart)
    badges = " ".join(
        f"![{name}: {about[key]}](https://img.shields.io/badge/{name}-{about[key]}-informational?style=flat-square)"
        for name, key in (("Version", "version"), ("Type", "type"), ("AppVersion", "appVersion"))
    )
    lines = [f"# {about['name']}", "", badges, "", about["description"], "", f"**Homepage:** <{about['home']}>", ""]
    lines += ["## Source Code", "", *(f"* <{source}>" for source in about["sources"]), ""]
    lines += ["## Requirements", "", f"Kubernetes: `{about['kubeVersion']}`", ""]
    lines += ["## Values", "", "| Key | Type | Default | Description |", "|-----|------|---------|-------------|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(values)]
    lines += ["", "----------------------------------------------", ""]
    lines += [
        "`python docs/chart_readme.py` writes this page from the comments of `values.yaml`, in the format of helm-docs."
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page. With ``--check``, compare the page instead, and return 1 if it is out of date."""
    text = readme(*((_CHART / name).read_text(encoding="utf-8") for name in ("Chart.yaml", "values.yaml")))
    if "--check" in sys.argv[1:]:
        if PAGE.read_text(encoding="utf-8") == text:
            return 0
        print(f"{PAGE} is out of date; run: python docs/chart_readme.py", file=sys.stderr)
        return 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
