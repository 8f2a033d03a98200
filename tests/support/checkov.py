"""Runs of checkov, a scanner of configuration files, which `tests/environments.sh checkov` installs."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.paths import ENVIRONMENTS, ROOT

__all__ = ["checkov"]


def checkov(framework: str, folder: Path) -> str:
    """Run checkov on a folder and return its output. Fail on any finding that docker/checkov.yaml does not explain."""
    command = [ENVIRONMENTS / "checkov" / "bin" / "checkov", "--framework", framework, "--directory", folder]
    command += ["--config-file", ROOT / "docker" / "checkov.yaml", "--compact", "--quiet", "--skip-download"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert "Failed checks: 0" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
    return done.stdout
