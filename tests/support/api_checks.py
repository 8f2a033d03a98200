"""Checks of an OpenAPI description and of a server that claims to follow it.

`tests/environments.sh api_checks` installs the programs that check: openapi-spec-validator and schemathesis.
"""

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
    """Fail if a JSON document is not a valid OpenAPI description."""
    file = folder / "openapi.json"
    file.write_bytes(content)
    _run(["openapi-spec-validator", str(file)], 120, folder)


def attack(address: str, folder: Path, *, cases: int, seed: int) -> int:
    """Send requests that schemathesis generates to every operation, and return their number. Check all responses.

    JSON bodies get every check of schemathesis. Forms get every check but ``negative_data_rejection``: every value in a
    form is text, so a body that breaks the schema of a form cannot be told from a valid one.

    Args:
        address: the base URL of the service, such as ``http://127.0.0.1:8080``.
        folder: the folder for the settings and the files of schemathesis.
        cases: the maximum number of requests that one phase makes for one operation.
        seed: the seed of the generator.
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
    """Return a copy of a description with only those operations whose body may have the given media type.

    Operations without a body are kept if the media type is ``application/json``.
    """
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
