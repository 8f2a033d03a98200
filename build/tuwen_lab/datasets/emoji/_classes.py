"""The classes of the pictures: emoji with Chinese labels and keywords, and the English names in icon sets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuwen_build.errors import BuildError

__all__ = ["EmojiClass", "Names", "normalized", "read_classes", "read_names"]

_COMPONENTS, _FLAGS = 2, 9  # emojibase's groups: skin tones and hair; flags, whose names are names of countries


@dataclass(frozen=True)
class EmojiClass:
    """One emoji.

    Attributes:
        code: the emoji's code points, such as ``1f63a``, without the variation selector.
        label: the emoji's name in Chinese.
        tags: keywords in Chinese, without the label.
    """

    code: str
    label: str
    tags: tuple[str, ...]


class Names:
    """A mapping from the English name of an icon to the code of an emoji."""

    def __init__(self) -> None:
        self._codes: dict[str, str] = {}

    def add(self, name: str, code: str) -> None:
        """Add a name and its code. A name that is known already keeps its first code."""
        for form in (_slug(name), _slug(name).replace("-", "")):
            self._codes.setdefault(form, normalized(code))

    def code(self, name: str) -> str | None:
        """Return the code of the emoji that an icon of this name shows; None: the name is unknown.

        Hyphens are ignored, because the names of FxEmoji have no hyphens.
        """
        slug = _slug(name)
        return self._codes.get(slug) or self._codes.get(slug.replace("-", ""))


def read_classes(labels: Path) -> list[EmojiClass]:
    """Return every emoji with a Chinese name, except flags, components, and male or female variants of another emoji.

    Args:
        labels: the unpacked package `LABELS`.

    Raises:
        BuildError: the package has another structure than expected.
    """
    classes = []
    for record in _read(labels / "zh" / "data.json"):
        group = record.get("group")
        if group in (None, _COMPONENTS, _FLAGS) or "gender" in record:
            continue
        label = record["label"].strip()
        tags = [tag.strip() for tag in record.get("tags", ())]
        classes.append(
            EmojiClass(normalized(record["hexcode"]), label, tuple(dict.fromkeys(tag for tag in tags if tag != label)))
        )
    return classes


def read_names(labels: Path, tables: Iterable[dict[str, str]]) -> Names:
    """Return the names of icons: from the sets' own tables, then CLDR's English names, then short codes.

    Args:
        labels: the unpacked package `LABELS`.
        tables: the icon sets' own tables, from code points to names.
    """
    names = Names()
    for table in tables:
        for code, name in table.items():
            names.add(name, code)
    for record in _read(labels / "en" / "data.json"):
        names.add(record["label"], record["hexcode"])
    for file in sorted((labels / "en" / "shortcodes").glob("*.json")):
        for code, codes in _read(file).items():
            for name in [codes] if isinstance(codes, str) else codes:
                names.add(name, code)
    return names


def normalized(code: str) -> str:
    """Return code points in lower case without the variation selector, which only some packages write."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("’", "").replace("'", "")).strip("-")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"cannot read the emoji names in {path}: {error}") from error
