"""Tests of the CPU image and the client image without a container engine.

The steps of the Dockerfiles run in a virtual environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.artefacts import Artefacts
from tests.support.chart import rendered
from tests.support.command import started, wait_until
from tests.support.paths import ENVIRONMENTS, ROOT
from tests.support.wheel import WHEEL_COMMAND, project_wheel
from tuwen import Client
from tuwen_server import EmbeddedServer, ServerOptions

pytestmark = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the images have Python 3.11")


class Image:
    """An image whose installation steps run in a virtual environment instead of a container.

    Args:
        name: the name of the Dockerfile in ``docker/``, such as ``cpu``.
        folder: the folder of the virtual environment, which is created.
        wheel: the wheel of tuwen, which the first stage of every Dockerfile builds.
    """

    def __init__(self, name: str, folder: Path, wheel: Path) -> None:
        self.recipe = (ROOT / "docker" / f"{name}.Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
        self.bin = folder / "bin"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        assert re.search(r"^FROM \$\{PYTHON\}", self.recipe, re.MULTILINE)
        command = WHEEL_COMMAND.format(folder="/wheel").replace("--no-deps", "--no-deps --no-build-isolation")
        assert f"{command}\n" in self.recipe
        self._run(
            r"pip install [^&|\n]*--requirement /tmp/\w+\.txt",
            {f"/tmp/{name}.txt": str(ROOT / "docker" / "locks" / f"{name}.txt")},
        )
        self._run(r"pip install [^&|\n]*/tmp/wheel/\*\.whl", {"/tmp/wheel": str(wheel.parent)})

    def _run(self, step: str, places: dict[str, str]) -> None:
        [found] = re.findall(rf"^RUN .*?({step})", self.recipe, re.MULTILINE)
        for old, new in places.items():
            found = found.replace(old, new)
        environment = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "TORCH_INDEX": ""}
        done = subprocess.run(
            ["bash", "-ec", found], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def packages(self) -> set[str]:
        """Return the installed packages as ``name==version``, without pip and setuptools."""
        command = [self.bin / "python", "-m", "pip", "list", "--format", "json"]
        listed = json.loads(subprocess.check_output(command, timeout=60))
        names = {re.sub(r"[-_.]+", "-", one["name"]).lower(): one["version"] for one in listed}
        return {f"{name}=={version}" for name, version in names.items() if name not in ("pip", "setuptools")}

    def command(self, *, entrypoint: list[str] | None = None, arguments: list[str] | None = None) -> list[str]:
        """Return the command that a container of the image runs.

        Args:
            entrypoint: the program; None: the ENTRYPOINT of the Dockerfile.
            arguments: the arguments; None: the CMD of the Dockerfile.
        """
        said = {
            name: json.loads(value)
            for name, value in re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", self.recipe, re.MULTILINE)
        }
        program, *rest = [*(entrypoint or said["ENTRYPOINT"]), *(arguments or said["CMD"])]
        return [str(self.bin / program), *rest]


def listed_in_the_bill(name: str, folder: Path) -> set[str]:
    """Return the packages in an image's bill of materials as ``name==version``."""
    python = ENVIRONMENTS / "release" / "bin" / "python"
    if not python.exists():
        pytest.skip("the tools of a release are missing; install them with: tests/environments.sh release")
    subprocess.run([python, ROOT / "docker" / "sbom.py", name, "--output", folder], check=True, timeout=120)
    bill = json.loads((folder / f"tuwen-{name}.cdx.json").read_text(encoding="utf-8"))
    return {f"{one['name']}=={one['version']}" for one in bill["components"] if one["type"] == "library"}


def test_the_cpu_image_starts_a_server_that_answers(repository: Path, artefacts: Artefacts, tmp_path: Path) -> None:
    image = Image("cpu", tmp_path / "cpu", project_wheel(artefacts))
    command = image.command()
    assert command[1:5] == ["serve", "/models", "--host", "0.0.0.0"]
    free = ServerOptions.on_free_ports().with_ports_resolved()
    ports = ["--grpc-port", str(free.grpc_port), "--http-port", str(free.http_port)]
    ports += ["--metrics-port", str(free.metrics_port)]
    command = [str(repository) if part == "/models" else part for part in command]
    command[3:5] = ["--host", "127.0.0.1", *ports]
    health = re.search(r"CMD (\[\"python\", \"-c\".*\])$", image.recipe, re.MULTILINE)
    assert health is not None
    check = [part.replace(":8000", f":{free.http_port}") for part in json.loads(health[1])]

    def healthy() -> bool:
        return subprocess.run([image.bin / check[0], *check[1:]], capture_output=True, check=False).returncode == 0

    assert not healthy()
    # Without these variables, the process cannot import packages of the tests' Python.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with started(command, env=environment) as process, Client(f"localhost:{free.grpc_port}") as clip:
        wait_until(clip.is_ready, running=process, seconds=300)
        assert healthy()
        assert clip.embed_texts(["一只猫"]).shape == (1, clip.model_card().embedding_dimension)
        process.terminate()
        assert process.wait(60) == 0


def test_the_command_of_the_chart_starts_the_cpu_image(repository: Path, artefacts: Artefacts, tmp_path: Path) -> None:
    """The chart can start the CPU image with the same command as NVIDIA's image.

    The CPU image has a script `tritonserver`, which takes the arguments of NVIDIA's program.
    """
    image = Image("cpu", tmp_path / "cpu", project_wheel(artefacts))
    [script, place] = re.findall(r"^COPY .*(docker/tritonserver\.sh) (\S+)$", image.recipe, re.MULTILINE)[0]
    assert place == "/usr/local/bin/tritonserver"  # beside the image's Python
    shutil.copy(ROOT / script, image.bin / "tritonserver")
    [container] = rendered({"image": {"repository": "tuwen-cpu"}})["Deployment"]["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["command"] == ["tritonserver"]
    free = ServerOptions.on_free_ports().with_ports_resolved()
    places = {"=/models": f"={repository}", "$(RESTRICTED_KEY)": "the-key-of-the-test"}
    arguments = list(container["args"])
    for old, new in places.items():
        arguments = [argument.replace(old, new) for argument in arguments]
    arguments += [f"--http-port={free.http_port}", f"--grpc-port={free.grpc_port}"]
    arguments += [f"--metrics-port={free.metrics_port}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PATH": f"{image.bin}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    environment |= {"DECODE_THREADS": "2", "OMP_NUM_THREADS": "2"}
    with (
        started([str(image.bin / "tritonserver"), *arguments], env=environment) as process,
        Client(f"localhost:{free.grpc_port}") as clip,
    ):
        wait_until(clip.is_ready, running=process, seconds=300)
        assert clip.embed_texts(["一只猫"]).shape == (1, clip.model_card().embedding_dimension)
        process.terminate()
        assert process.wait(60) == 0


def test_the_client_image_calls_a_server_and_runs_a_load_test(
    server: EmbeddedServer, artefacts: Artefacts, tmp_path: Path
) -> None:
    image = Image("client", tmp_path / "client", project_wheel(artefacts))
    assert image.packages() == listed_in_the_bill("client", tmp_path)
    done = subprocess.run(image.command(), capture_output=True, text=True, timeout=60, check=True)
    assert "similarity" in done.stdout
    status = image.command(arguments=["status", "--url", server.grpc_url, "--json"])
    assert json.loads(subprocess.run(status, capture_output=True, text=True, timeout=60, check=True).stdout)["ready"]
    load = ["-f", str(ROOT / "loadtest" / "locustfile.py"), "--host", server.grpc_url, "--headless", "--users", "2"]
    load = image.command(entrypoint=["locust"], arguments=[*load, "--run-time", "5s", "TextSearch"])
    done = subprocess.run(load, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Aggregated +[1-9]", done.stdout + done.stderr)
