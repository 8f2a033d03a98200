"""Check that a release names one version everywhere, and print its notes.

    python build/release.py v0.2.0 [--notes FILE]

The workflow of releases runs this before it builds anything.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["ReleaseError", "check_tag", "main", "release_notes", "versions"]

_ROOT = Path(__file__).resolve().parents[1]
_FILES = {
    "pyproject.toml": r'^version = "([^"]+)"$',
    "docker/kubernetes/Chart.yaml": r"^(?:version|appVersion): (\S+)$",
    "docker/kubernetes/README.md": r"!\[(?:Version|AppVersion): ([^]]+)\]",
    "docker/kubernetes/values.yaml": r"^ +image: tuwen-\w+:(\S+)",
    "docker/examples/argocd.yaml": r"^ +targetRevision: (\S+)$",
    "docker/examples/kserve.yaml": r"^ +image: \S+/tuwen-server:(\S+)$",
}


class ReleaseError(Exception):
    """A release that cannot be published, because a file or the changelog does not fit its tag."""


def versions(root: Path) -> dict[str, set[str]]:
    """Return the versions that each file of the project names, by the name of the file."""
    return {
        name: set(re.findall(pattern, (root / name).read_text(encoding="utf-8"), re.MULTILINE))
        for name, pattern in _FILES.items()
    }


def check_tag(tag: str, named: Mapping[str, set[str]]) -> str:
    """Return the version of a tag.

    Raises:
        ReleaseError: a file names another version than the tag.
    """
    version = tag.removeprefix("v")
    for name, found in named.items():
        if found != {version}:
            raise ReleaseError(f"expected version {version} in {name}, got {', '.join(sorted(found)) or 'none'}")
    return version


def release_notes(changelog: str, version: str) -> str:
    """Return the text of one version of a changelog, without its heading.

    Raises:
        ReleaseError: the changelog has no dated heading of this version, or nothing below it.
    """
    heading = re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE)
    if heading is None:
        raise ReleaseError(
            f"expected the heading '## [{version}] - YYYY-MM-DD' in CHANGELOG.md; add it below Unreleased"
        )
    text = re.split(r"^(?:## |\[[^\]]+\]: )", changelog[heading.end() :], maxsplit=1, flags=re.MULTILINE)[0].strip()
    if not text:
        raise ReleaseError(f"CHANGELOG.md lists nothing below version {version}")
    return f"{text}\n"


def main(arguments: list[str] | None = None, root: Path = _ROOT) -> int:
    """Print the notes of a tag, or write the notes to a file. Return 1 if the release cannot be published."""
    parser = argparse.ArgumentParser(description="Check the version of a release, and print its notes.")
    parser.add_argument("tag", help="The tag of the release, such as v0.2.0.")
    parser.add_argument("--notes", type=Path, help="The file for the notes. Default: the notes are printed.")
    chosen = parser.parse_args(arguments)
    try:
        version = check_tag(chosen.tag, versions(root))
        text = release_notes((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    except ReleaseError as error:
        print(f"cannot release {chosen.tag}: {error}", file=sys.stderr)
        return 1
    if chosen.notes is None:
        print(text, end="")
    else:
        chosen.notes.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
