"""schemathesis and openapi-spec-validator, in the environment that `tests/environments.sh api_checks` makes."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

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

    A form has no types: an object or a number in it is a text that holds one. So bodies that break the schema of a form
    cannot be told from others, and forms are attacked without that check.

    Args:
        address: of the service.
        folder: for settings and what schemathesis keeps.
        cases: the maximum number of requests that one phase makes for one operation.
        seed: of the generator.
    """
    (folder / "schemathesis.toml").write_text(_SETTINGS, encoding="utf-8")
    with urllib.request.urlopen(f"{address}/openapi.json", timeout=60) as answer:
        content = json.load(answer)
    found = 0
    for name, media_type, options in (
        ("json", "application/json", ()),
        ("forms", "multipart/form-data", ("--exclude-checks", "negative_data_rejection")),
    ):
        description = folder / f"{name}.json"
        description.write_text(json.dumps(_with_bodies(content, media_type)), encoding="utf-8")
        shown = _run(
            [
                *("st", "--config-file", str(folder / "schemathesis.toml")),
                *("run", str(description), "--url", address, "--checks", "all", *options),
                *("--max-examples", str(cases), "--phases", "examples,coverage,fuzzing", "--seed", str(seed)),
                *("--no-color", "--generation-database", "none", "--suppress-health-check", "all"),
                "--continue-on-failure",
            ],
            1800,
            folder,
        )
        generated = re.search(r"([\d,]+) generated", shown)
        assert generated, shown
        found += int(generated[1].replace(",", ""))
    return found


def _with_bodies(content: dict[str, Any], media_type: str) -> dict[str, Any]:
    """Return a description with only one media type for bodies. Operations without a body are in that of JSON."""
    kept = copy.deepcopy(content)
    for path in list(kept["paths"].values()):
        for method, operation in list(path.items()):
            bodies = operation.get("requestBody", {}).get("content", {"application/json": None})
            if media_type not in bodies:
                del path[method]
            elif "requestBody" in operation:
                operation["requestBody"]["content"] = {media_type: bodies[media_type]}
    kept["paths"] = {name: path for name, path in kept["paths"].items() if path}
    return kept


def _run(command: list[str], seconds: float, folder: Path) -> str:
    program = _BIN / command[0]
    assert program.exists(), "run `tests/environments.sh api_checks` first"
    finished = subprocess.run(
        [_BIN / "python", program, *command[1:]],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        cwd=folder,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout
