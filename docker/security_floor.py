"""Write the section about NVIDIA's bulletins into SECURITY.md and SECURITY.zh.md.

The section comes from ``client/tuwen_cli/security_floor.json``.

Run ``python docker/security_floor.py`` after each change of the JSON file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["PAGES", "chinese_section", "main", "section", "with_section"]

_HERE = Path(__file__).resolve().parent
_FLOOR = _HERE.parent / "client" / "tuwen_cli" / "security_floor.json"
_START, _END = "<!-- security-floor: begin -->", "<!-- security-floor: end -->"
_BULLETINS = "https://github.com/NVIDIA/product-security/tree/main"


def section(floor: dict[str, Any]) -> str:
    """Return the section in Markdown: the oldest allowed release, and a row for each group of CVEs."""
    embedded, default = floor["embedded"], floor["default"]
    lines = [
        "## Triton's own vulnerabilities",
        "",
        f"Run no container older than {floor['floor']['release']}: {floor['floor']['why']}.",
        f"The default images are {default['release']} (Triton {default['triton']}), which has every fix below.",
        f"The embedded server of `tuwen serve` is Triton {embedded['triton']} ({embedded['release']}), the newest "
        "that its wheel offers, and lacks all of them.",
        "",
        "| bulletin | CVE | affected part | fixed in | embedded server exposed? | protection of the embedded server |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *_rows(floor)])


def chinese_section(floor: dict[str, Any]) -> str:
    """Return the section in Markdown for the Chinese page. The cells of the table stay in English, as in the file."""
    embedded, default = floor["embedded"], floor["default"]
    lines = [
        "## Triton 自身的漏洞",
        "",
        f"请勿运行比 {floor['floor']['release']} 更旧的容器：{floor['floor']['why_zh']}。",
        f"默认镜像是 {default['release']}（Triton {default['triton']}），包含下列所有修复。",
        f"`tuwen serve` 的内嵌服务是 Triton {embedded['triton']}（{embedded['release']}），是其 wheel 提供的最新版本，"
        "不含任何一项修复。",
        "表格内容保留英文。",
        "",
        "| 公告 | CVE | 受影响的部分 | 修复版本 | 内嵌服务是否暴露 | 内嵌服务的防护 |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *_rows(floor)])


def _rows(floor: dict[str, Any]) -> Iterator[str]:
    for row in floor["bulletins"]:
        link = f"[{row['id']}]({_BULLETINS}/{row['published'][:4]}/{row['id']})"
        cells = [link, ", ".join(row["cves"]), row["reaches"], row["fixed_in"], row["exposed"], row["barrier"]]
        yield f"| {' | '.join(cells)} |"


PAGES = {"SECURITY.md": section, "SECURITY.zh.md": chinese_section}
"""The function that writes the section of each page of the root."""


def with_section(page: str, text: str) -> str:
    """Return the page with this text between its two marks.

    Raises:
        ValueError: the page lacks a mark.
    """
    before, start, rest = page.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise ValueError(f"expected the marks '{_START}' and '{_END}' in the page")
    return f"{before}{_START}\n{text}\n{_END}{after}"


def main() -> None:
    """Write the table of ``client/tuwen_cli/security_floor.json`` into the pages."""
    floor = json.loads(_FLOOR.read_text(encoding="utf-8"))
    for name, written in PAGES.items():
        page = _HERE.parent / name
        page.write_text(with_section(page.read_text(encoding="utf-8"), written(floor)), encoding="utf-8")


if __name__ == "__main__":
    main()
