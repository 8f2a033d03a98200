"""The folders that tests read from and write to."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CACHE", "ENVIRONMENTS", "GALLERY", "ROOT"]

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "tests"
ENVIRONMENTS = CACHE / "environments"  # virtual environments of programs that cannot be installed beside the project
GALLERY = ROOT / "build" / "demo" / "gallery"
