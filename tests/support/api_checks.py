"""schemathesis and openapi-spec-validator, in the environment that `tests/environments.sh api_checks` makes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.support.paths import ENVIRONMENTS

__all__ = ["attack", "check_description"]

_BIN = ENVIRONMENTS / "api_checks" / "bin"
_SETTINGS = """
[checks.positive_data_acceptance]
# No schema can tell which strings are images: the edge answers 422 and names the item.
expected-statuses = ["2xx", "401", "404", "422"]
"""


def check_description(content: bytes, folder: Path) -> None:
    """Fail if a description of an interface is not valid OpenAPI."""
    file = folder / "openapi.json"
    file.write_bytes(content)
    _run(["openapi-spec-validator", str(file)], 120, folder)


def attack(address: str, folder: Path, *, cases: int, seed: int) -> int:
    """Send generated requests to every operation, with all checks of schemathesis, and return their number.

    Args:
        address: of the service.
        folder: for settings and what schemathesis keeps.
        cases: the maximum number of requests that one phase makes for one operation.
        seed: of the generator.
    """
    (folder / "schemathesis.toml").write_text(_SETTINGS, encoding="utf-8")
    shown = _run(
        [
            *("st", "--config-file", str(folder / "schemathesis.toml")),
            *("run", f"{address}/openapi.json", "--checks", "all", "--max-examples", str(cases)),
            *("--phases", "examples,coverage,fuzzing", "--seed", str(seed), "--no-color"),
            *("--generation-database", "none", "--suppress-health-check", "all", "--continue-on-failure"),
        ],
        1800,
        folder,
    )
    found = re.search(r"([\d,]+) generated", shown)
    assert found, shown
    return int(found[1].replace(",", ""))


def _run(command: list[str], seconds: float, folder: Path) -> str:
    program = _BIN / command[0]
    assert program.exists(), "run `tests/environments.sh api_checks` first"
    finished = subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, timeout=seconds, check=False, cwd=folder
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout
