"""Tests of the wheel and the sdist: their contents, and the packages that they install without an extra."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.support.artefacts import Artefacts
from tests.support.paths import ENVIRONMENTS, ROOT
from tests.support.wheel import project_wheel
from tuwen_repository.samples import sample
from tuwen_server import EmbeddedServer


@pytest.fixture(scope="module")
def wheel(artefacts: Artefacts) -> Path:
    return project_wheel(artefacts)


def test_holds_all_packages_and_the_model_repository(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "tuwen/py.typed",
        "tuwen/pixels.py",
        "tuwen_build/py.typed",
        "tuwen_repository/samples/texts.json",
        "tuwen_server/backends/pytorch/model.py",
        "tuwen_server/backends/pytorch/backlog.py",
        "tuwen_server/backends/pytorch/row_cache.py",
        "tuwen_server/packages.txt",
        "tuwen_build/model_repository/image_preprocessing/1/model.py",
        "tuwen_build/model_repository/vision_encoder/config.pbtxt",
        "tuwen_build/model_repository/shared/items.py",
        "tuwen_build/model_repository/text_tokenization/1/byte_pairs.py",
        "tuwen_loadtest/locustfile.py",
    ):
        assert name in names
    assert not any("__pycache__" in name for name in names)


def test_the_base_install_needs_no_torch(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = Parser().parsestr(
        archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    )
    base = {
        line.split(">")[0].split("[")[0] for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line
    }
    assert base == {"numpy", "pillow", "rich", "tqdm", "tritonclient", "typer"}
    assert metadata["License-Expression"] == "Apache-2.0"


def test_a_fresh_install_loads_no_extra_and_works(wheel: Path, server: EmbeddedServer, tmp_path: Path) -> None:
    """After `pip install tuwen` in a fresh environment, the command line and the SDK work without any extra."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel)]
    subprocess.run(pip, check=True, timeout=300)
    code = "import sys, tuwen; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(subprocess.check_output([python, "-I", "-c", code], text=True, timeout=60).split())
    assert {"tuwen", "grpc", "numpy"} <= loaded
    # `import tuwen` loads no package that only the command line or one kind of call needs.
    assert not loaded & {"rich", "typer", "click", "aiohttp", "requests", "pandas", "tuwen_build", "tuwen_search"}
    listed = json.loads(subprocess.check_output([python, "-m", "pip", "list", "--format", "json"], timeout=60))
    installed = {package["name"].lower() for package in listed}
    assert "tuwen" in installed
    assert not installed & {"torch", "transformers", "tokenizers", "pyarrow", "nvidia-pytriton"}
    command = [tmp_path / "venv" / "bin" / "tuwen", "similarity", "-u", server.grpc_url, "-i", sample("cat.jpg")]
    shown = subprocess.check_output([*command, "-t", "一只猫", "-t", "火箭"], text=True, timeout=60)
    assert "一只猫" in shown
    code = "import sys; from tuwen import Client; Client(sys.argv[1], preprocess='client').embed_images([sys.argv[2]])"
    subprocess.run([python, "-I", "-c", code, server.grpc_url, sample("cat.jpg")], check=True, timeout=60)


def test_serving_needs_no_packages_of_a_build() -> None:
    """`tuwen_server` can be imported without torch and transformers.

    The server's image has no packages that only a build needs.
    """
    code = "import sys; sys.modules['transformers'] = sys.modules['torch'] = None; import tuwen_server"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Build the sdist and then, from the sdist, the wheel, as a release does. Return the paths, the wheel's first."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([release_tool("python"), "-m", "build", "--outdir", folder, ROOT], check=True, timeout=600)
    return sorted(folder.iterdir())


def release_tool(name: str) -> Path:
    tool = ENVIRONMENTS / "release" / "bin" / name
    if not tool.exists():
        pytest.skip("the tools of a release are missing; install them with: tests/environments.sh release")
    return tool


def test_the_release_checks_pass(distributions: list[Path]) -> None:
    assert [path.suffix for path in distributions] == [".whl", ".gz"]
    for command in (
        [release_tool("twine"), "check", "--strict", *distributions],
        [release_tool("check-wheel-contents"), "--config", ROOT / "pyproject.toml", distributions[0]],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_sdist_makes_the_same_wheel_as_the_sources(distributions: list[Path], wheel: Path) -> None:
    def contents(path: Path) -> dict[str, int]:
        return {
            entry.filename: entry.CRC for entry in zipfile.ZipFile(path).infolist() if "dist-info" not in entry.filename
        }

    assert contents(distributions[0]) == contents(wheel)


@pytest.mark.parametrize("minor", [10, 13])
def test_the_sdk_works_on_the_oldest_and_the_newest_python(
    distributions: list[Path], server: EmbeddedServer, tmp_path: Path, minor: int
) -> None:
    """The SDK and the command line work on the oldest and the newest supported Python.

    pip installs the newest releases that the base install allows. The SDK calls the fake and the real server.
    """
    python = shutil.which(f"python3.{minor}")
    if (
        python is None
        or subprocess.run([python, "-c", "import ensurepip"], capture_output=True, check=False).returncode
    ):
        pytest.skip(f"this machine has no Python 3.{minor} with ensurepip")
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True, timeout=300)
    bin_folder = tmp_path / "venv" / "bin"
    pip = [bin_folder / "python", "-m", "pip", "install", "--quiet", distributions[0]]
    subprocess.run(pip, check=True, timeout=600)
    subprocess.run([bin_folder / "python", "-m", "pip", "check"], check=True, timeout=60)
    program = [bin_folder / "python", ROOT / "tests" / "sdk_program.py"]
    for command in (program, [*program, server.grpc_url], [bin_folder / "tuwen", "status", "--url", server.grpc_url]):
        environment = {"PATH": str(bin_folder)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
