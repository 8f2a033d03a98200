"""Reading JSON files. Every error names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tuwen_build.checkpoints._folders import check_no_pointer
from tuwen_build.errors import CheckpointError

__all__ = ["load_json"]


def load_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        check_no_pointer(path)
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return content
