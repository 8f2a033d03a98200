"""Write the section of the root's SECURITY.md about NVIDIA's bulletins from ``client/tuwen_cli/security_floor.json``.

Run ``python docker/security_floor.py`` after each change of the JSON file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["main", "section", "with_section"]

_HERE = Path(__file__).resolve().parent
_PAGE = _HERE.parent / "SECURITY.md"
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
        "The last two columns are about the embedded server.",
        "",
        "| bulletin | CVE | what it reaches | fixed in | exposed? | what stands in the way |",
        "|---|---|---|---|---|---|",
    ]
    for row in floor["bulletins"]:
        link = f"[{row['id']}]({_BULLETINS}/{row['published'][:4]}/{row['id']})"
        cells = [link, ", ".join(row["cves"]), row["reaches"], row["fixed_in"], row["exposed"], row["barrier"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_section(page: str, text: str) -> str:
    """Return the page with the text between its two marks.

    Raises:
        ValueError: the page has no such marks.
    """
    before, start, rest = page.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise ValueError(f"expected the marks '{_START}' and '{_END}' in the page")
    return f"{before}{_START}\n{text}\n{_END}{after}"


def main() -> None:
    """Write the table of ``client/tuwen_cli/security_floor.json`` into SECURITY.md."""
    floor = json.loads(_FLOOR.read_text(encoding="utf-8"))
    _PAGE.write_text(with_section(_PAGE.read_text(encoding="utf-8"), section(floor)), encoding="utf-8")


if __name__ == "__main__":
    main()
