"""checkov, in the environment that `tests/environments.sh checkov` makes for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.paths import ENVIRONMENTS, ROOT

__all__ = ["checkov"]


def checkov(framework: str, folder: Path) -> str:
    """Return what checkov prints; fail if it finds anything that docker/checkov.yaml does not explain."""
    command = [ENVIRONMENTS / "checkov" / "bin" / "checkov", "--framework", framework, "--directory", folder]
    command += ["--config-file", ROOT / "docker" / "checkov.yaml", "--compact", "--quiet", "--skip-download"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert "Failed checks: 0" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
    return done.stdout
