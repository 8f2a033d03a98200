"""Run all cells of the notebook in ``examples/`` in a fresh kernel."""

from __future__ import annotations

import json
import re
import sys
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.paths import ROOT

NOTEBOOK = ROOT / "examples" / "tuwen.ipynb"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a Jupyter kernel in a virtual environment without tuwen, and return the environment's package folder.

    The notebook installs tuwen in this environment. The environment also sees the packages of the tests' environment,
    so that pip finds the packages that tuwen needs.
    """
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    packages = environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (packages / "tests.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    folder = tmp_path / "jupyter" / "kernels" / "notebook"
    folder.mkdir(parents=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    specification = {"argv": command, "display_name": "notebook", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(specification), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return packages


def outputs(cell: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def test_installs_builds_serves_searches_and_plots(kernel: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="notebook", resources=place).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    streams = [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"]
    assert not streams, "".join(stream.text for stream in streams)
    assert (kernel / "tuwen_build" / "model_repository").is_dir()
    printed = "\n".join(map(outputs, cells))
    deviations = re.search(r"largest deviation of images and of texts: (\S+) (\S+)", printed)
    assert deviations
    assert max(map(float, deviations.groups())) < 1e-5
    assert "ModelCard(" in printed
    assert re.search(r"一只猫 +cosine 0\.\d+ +probability [5-9]\d\.\d%", printed)
    found = re.findall(r"^0\.\d{3}  (\S+)$", printed, re.MULTILINE)
    assert len(found) == 5
    assert {"红苹果", "西红柿", "草莓", "樱桃"} & set(found)
    plots = [output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(plots) == 2


def test_the_notebook_is_kept_without_outputs() -> None:
    """The notebook in the repository holds no outputs and no execution counts.

    Outputs would change with each run, and would hold pictures that cannot be reviewed.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
