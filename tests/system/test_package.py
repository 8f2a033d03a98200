"""The wheel: it holds everything that a build needs, and installs nothing but the SDK unless an extra is chosen."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.support.artefacts import Artefacts
from tests.support.paths import ROOT
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
    """Do what a user does with `pip install tuwen`."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel)]
    subprocess.run(pip, check=True, timeout=300)
    code = "import sys, tuwen; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(subprocess.check_output([python, "-I", "-c", code], text=True, timeout=60).split())
    assert {"tuwen", "grpc", "numpy"} <= loaded
    # What only the command line or one kind of call needs is not loaded by `import tuwen`.
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


def test_serving_needs_nothing_of_what_building_does() -> None:
    """An image of the server has torch for its encoders, but neither transformers nor what a build needs."""
    code = "import sys; sys.modules['transformers'] = sys.modules['torch'] = None; import tuwen_server"
    subprocess.run([sys.executable, "-c", code], check=True)
