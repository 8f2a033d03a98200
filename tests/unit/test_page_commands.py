"""Every shell command of the README and the guides runs here as written, or is listed with the test that runs it."""

from __future__ import annotations

import base64
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.pages import blocks
from tests.support.collections import picture
from tests.support.command import tuwen
from tests.support.grpc_server import GrpcServer
from tests.support.paths import ROOT
from tuwen_repository.samples import sample

PAGES = [
    "README.md",
    "README.zh.md",
    "docs/get-started.md",
    "docs/get-started.zh.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "guides").rglob("*.md")),
]
ENGLISH = [page for page in PAGES if not page.endswith(".zh.md")]

# Commands that run here against a fake server, in the order in which the pages show them.
RUNS = re.compile(
    r"tuwen (status|similarity|classify|embed|index|search|collections|edge-key|evaluate)\b"
    r"|python -m (tuwen_loadtest\.perf_analyzer_input|tests\.quantization_table)\b"
)
# Commands that do not run here: for each the requirement that is missing here, and the test that runs the command.
EXCEPTIONS: dict[str, str] = {
    r"make ": "the whole environment; the workflows run it, and test_environment_script.py its first step",
    r"(sudo |pip |python -m venv|perf/bin/pip)": "a package registry; tests/system/test_package.py installs the wheel",
    r"(export TUWEN_SERVER_KEY=\$\()?kubectl ": "a cluster; tests/service/test_chart_models.py runs what a pod runs",
    r"docker |COMPOSE_PROFILES=|TUWEN_REPOSITORY=|helm ": "Docker or a cluster; tests/unit/deployment renders them",
    r"keyed=|exec tritonserver": "Docker, whose command goes on over several lines",
    r"(\w+=\S+ )?tuwen build |hf download ": "a checkpoint of the hub; tests/service/test_build_command.py builds one",
    r"tuwen serve ": "the embedded server; tests/service/test_server.py runs it",
    r"tuwen (edge|web) ": "a process that serves until an interrupt; tests/service/test_edge.py and test_web.py run it",
    r"tuwen (tune|train|loadtest) ": "minutes; tests/system runs it",
    r"TUWEN_SERVER_KEY=\S+ tuwen tune ": "a container on a GPU; tests/system/test_tune.py tunes a running server",
    r"tuwen server install ": "a server's wheel; tests/service/test_server_packages.py installs from a folder",
    r"tuwen dataset ": "npm packages; tests/unit/lab/test_emoji_dataset.py makes them",
    r"tuwen models ": "a server with several models; tests/system/test_many_models.py runs it",
    r"curl ": "the HTTP edge; tests/service/test_edge.py sends these bodies",
    r"python -m tuwen_files\.ray_data ": "Ray and a bucket; tests/system/test_ray_data.py runs it on a folder",
    r"python -m tuwen_loadtest\.bench": "minutes and a machine of its own; tests/system/test_bench.py runs it",
    r"locust ": "minutes; tests/service/test_locust.py runs it",
    r"perf/bin/perf_analyzer |export LD_LIBRARY_PATH": "NVIDIA's perf_analyzer; perf_analyzer_input has tests",
    r"python3 -m dynamo": "NVIDIA's Dynamo",
}


def commands(page: str) -> list[str]:
    """Return the commands of a page's shell blocks, without comments and line breaks."""
    found = []
    for block in blocks((ROOT / page).read_text(encoding="utf-8")):
        if block.language == "bash":
            lines = block.text.replace("\\\n", " ").splitlines()
            found += [" ".join(line.split()) for line in lines if line.strip() and not line.startswith("#")]
    return found


def reason(command: str) -> str | None:
    """Return the stated reason why a command does not run here; None if no reason is stated."""
    return next((why for pattern, why in EXCEPTIONS.items() if re.match(pattern, command)), None)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_runs_here_or_is_listed_with_a_reason(page: str) -> None:
    assert [command for command in commands(page) if not RUNS.match(command) and not reason(command)] == []


def test_every_reason_belongs_to_a_command() -> None:
    every = [command for page in PAGES for command in commands(page)]
    used = {next(p for p in EXCEPTIONS if re.match(p, command)) for command in every if reason(command)}
    assert set(EXCEPTIONS) - used == set()


def test_every_reason_names_tests_that_exist() -> None:
    names = {Path(name).name for why in EXCEPTIONS.values() for name in re.findall(r"[\w/]*test_\w+\.py", why)}
    assert {name for name in names if not [*(ROOT / "tests").rglob(name)]} == set()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a working directory with the files that the pages name, beside a fake server at the default address."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUWEN_STORE", str(tmp_path / "store.db"))
    (tmp_path / "photos").mkdir()
    for name in ("cat.jpg", "coffee.jpg", "horse.png"):
        shutil.copy(sample(name), tmp_path / "photos")
    for name in ("cat.jpg", "dog.jpg", "shoe.jpg"):
        shutil.copy(sample("cat.jpg"), tmp_path / name)
    (tmp_path / "titles.txt").write_text("海边的日落\n一只猫\n", encoding="utf-8")
    (tmp_path / "products.csv").write_text(
        "path,price,category\nphotos/cat.jpg,90,鞋\nphotos/horse.png,300,包\n", encoding="utf-8"
    )
    (tmp_path / "Flickr30k-CN").mkdir()
    (tmp_path / "Flickr30k-CN" / "test_imgs.tsv").write_text(f"7\t{_base64('cat.jpg')}\n", encoding="ascii")
    (tmp_path / "Flickr30k-CN" / "test_texts.jsonl").write_text(
        '{"text_id": 1, "text": "一只猫", "image_ids": [7]}\n', encoding="utf-8"
    )
    for number in range(2):
        (tmp_path / "food-101" / str(number)).mkdir(parents=True)
        (tmp_path / "food-101" / str(number) / "a.png").write_bytes(picture(number))
    (tmp_path / "label_cn.txt").write_text("苹果派\n饺子\n", encoding="utf-8")
    with GrpcServer() as server:
        monkeypatch.setenv("TUWEN_URL", server.url)
        yield tmp_path


def _base64(name: str) -> str:
    return base64.b64encode(sample(name).read_bytes()).decode()


@pytest.mark.parametrize("page", [page for page in ENGLISH if any(map(RUNS.match, commands(page)))])
def test_the_commands_of_a_page_run_as_written(page: str, folder: Path) -> None:
    for command in filter(RUNS.match, commands(page)):
        arguments = shlex.split(command, comments=True)
        if arguments[1] in ("index", "search", "collections"):
            pytest.importorskip("pymilvus")
        if "vectors.parquet" in arguments:
            pytest.importorskip("pyarrow")
        if "--confusion" in arguments:
            pytest.importorskip("matplotlib")
        if arguments[0] == "tuwen":
            tuwen(*arguments[1:])
            continue
        if "photos.npz" in arguments:  # the page does not show the command that makes this file
            tuwen("embed", "photos/", "-o", "photos.npz")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
        subprocess.run([sys.executable, *arguments[1:]], check=True, cwd=folder, env=environment, timeout=120)
