"""The images' bills of materials follow CycloneDX's schema and list exactly the packages that the locks pin."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ENVIRONMENTS, ROOT

LOCKS = ROOT / "docker" / "locks"
FURTHER = {"cpu": [ROOT / "build" / "tuwen_server" / "packages.txt"]}
PYTHON = ENVIRONMENTS / "release" / "bin" / "python"
VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1], encoding="utf-8").read())
sys.exit(str(error) if error else 0)
"""

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="install them with: tests/environments.sh release")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PYTHON), *map(str, arguments)], capture_output=True, text=True, timeout=300, cwd=ROOT, check=False
    )


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sbom")
    done = run("docker/sbom.py", "--output", folder)
    assert done.returncode == 0, done.stderr
    return folder


def pinned(name: str) -> dict[str, set[str]]:
    """Return the hashes of every package in the lock of an image, by package URL."""
    text = "".join(path.read_text(encoding="utf-8") for path in (LOCKS / f"{name}.txt", *FURTHER.get(name, [])))
    pins = re.findall(r"^([a-z0-9-]+)==([^\s\\]+)((?:\s*\\\n\s+--hash=sha256:\w+)+)", text, re.MULTILINE)
    return {
        f"pkg:pypi/{package}@{version.replace('+', '%2B')}": set(re.findall(r"sha256:(\w+)", hashes))
        for package, version, hashes in pins
    }


def hashes(component: dict[str, Any]) -> set[str]:
    return {one["content"] for reference in component.get("externalReferences", []) for one in reference["hashes"]}


@pytest.mark.parametrize("name", ["server", "cpu", "client", "edge"])
def test_a_bill_lists_the_locked_packages_the_base_image_and_the_wheel(bills: Path, name: str) -> None:
    path = bills / f"tuwen-{name}.cdx.json"
    done = run("-c", VALIDATE, path)
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["metadata"]["component"]["name"] == f"tuwen-{name}"
    listed = {one["purl"]: hashes(one) for one in found["components"]}
    version = found["metadata"]["component"]["version"]
    assert (listed.pop(f"pkg:pypi/tuwen@{version}", None) is None) == (name == "server")
    [base] = [one for one in found["components"] if one["type"] == "container"]
    listed.pop(base["purl"])
    recipe = (ROOT / "docker" / f"{name}.Dockerfile").read_text(encoding="utf-8")
    assert f"={base['name']}:{base['version']}\n" in recipe
    assert listed == pinned(name)
    [whole] = [one for one in found["dependencies"] if "dependsOn" in one]
    assert sorted(whole["dependsOn"]) == sorted(one["bom-ref"] for one in found["components"])


def test_a_base_image_pinned_by_digest_is_listed_with_its_digest(tmp_path: Path) -> None:
    base = f"nvcr.io/nvidia/tritonserver@sha256:{'0' * 64}"
    assert run("docker/sbom.py", "server", "--base", base, "--output", tmp_path).returncode == 0
    found = json.loads((tmp_path / "tuwen-server.cdx.json").read_text(encoding="utf-8"))
    [purl] = [one["purl"] for one in found["components"] if one["type"] == "container"]
    assert purl == f"pkg:docker/nvidia/tritonserver@sha256%3A{'0' * 64}?repository_url=nvcr.io"


def test_rejects_an_unknown_image() -> None:
    done = run("docker/sbom.py", "gpu")
    assert done.returncode == 2
    assert "expected server, cpu, client, edge, got gpu" in done.stderr
