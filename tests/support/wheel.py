"""The wheel of this project, built once for all tests that install it into fresh environments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.artefacts import Artefacts
from tests.support.paths import ROOT
from tests.support.sources import files_hash

__all__ = ["WHEEL_COMMAND", "project_wheel"]

WHEEL_COMMAND = "pip wheel --no-cache-dir --no-deps --wheel-dir {folder} ."
"""The command that builds the wheel, in tests and in the Dockerfiles."""
_SOURCES = ("client", "build", "loadtest", "model_repository")
_FILES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")


def project_wheel(artefacts: Artefacts) -> Path:
    """Return the wheel, built from the sources as they are now. Do not change the file."""
    files = [ROOT / name for name in _FILES]
    for name in _SOURCES:
        files += [path for path in (ROOT / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    options = {"sources": files_hash(files, relative_to=ROOT), "command": WHEEL_COMMAND}
    folder = artefacts.get("wheel", _build, modules=(), options=options)
    [wheel] = folder.glob("tuwen-*.whl")
    return wheel


def _build(folder: Path) -> None:
    command = [sys.executable, "-m", *WHEEL_COMMAND.format(folder=folder).split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
