"""The server's Python models import the server's pinned numpy, and all other packages from this environment."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from tuwen_server import PACKAGES
from tuwen_server._runtime import find_runtime

CODE = """
import json, numpy, torch, tokenizers, PIL.Image, ftfy
array = torch.from_numpy(numpy.arange(6, dtype="float32").reshape(2, 3)).numpy()
image = numpy.asarray(PIL.Image.new("RGB", (2, 3)))
found = {"numpy": numpy.__version__, "torch": torch.__version__, "tokenizers": tokenizers.__version__}
print(json.dumps({**found, "shapes": [array.shape, image.shape]}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return the versions of the packages that a Python model of the server imports."""
    backends = tmp_path_factory.mktemp("backends")
    runtime = find_runtime()
    runtime.assemble_backends(backends)
    python = Path(runtime.environment(backends)["PATH"].partition(":")[0]) / "python3"
    return json.loads(subprocess.check_output([python, "-I", "-c", CODE], text=True, timeout=120))


def test_numpy_is_the_version_pinned_for_the_server(found: dict[str, object]) -> None:
    assert found["numpy"] == PACKAGES["numpy"]
    assert np.__version__ != PACKAGES["numpy"]


def test_torch_and_tokenizers_come_from_this_environment(found: dict[str, object]) -> None:
    assert found["torch"] == version("torch")
    assert found["tokenizers"] == version("tokenizers")


def test_packages_of_this_environment_work_with_the_servers_numpy(found: dict[str, object]) -> None:
    assert found["shapes"] == [[2, 3], [3, 2, 3]]
