"""`build/environment.sh` chooses the Python for .venv and the index of PyTorch, and says why a Python is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SCRIPT = ROOT / "build" / "environment.sh"
TOOLS = ("bash", "env", "rm", "mkdir", "timeout", "uname", "chmod", "cat")

PYTHON = """#!/bin/sh
case "$1 $2" in
"-m venv")
    [ "{broken}" ] && exit 1
    mkdir -p "$3/bin" "$3/lib/python3.{minor}"
    cp "$0" "$3/bin/python"
    ;;
"-m pip") printf '#!/bin/sh\\necho "uv $*" >>log\\nmkdir .venv' >.cache/uv/bin/uv; chmod +x .cache/uv/bin/uv ;;
*) echo "{minor} {venv} {headers}" ;;
esac
"""


class Machine:
    """A simulated machine: a PATH that holds only the added programs, and a folder in which .venv is made."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "bin"
        self.work = folder / "work"
        self.path.mkdir()
        self.work.mkdir()
        for tool in (*TOOLS, "cp"):
            found = shutil.which(tool)
            assert found
            (self.path / tool).symlink_to(found)

    def add(self, name: str, text: str = "#!/bin/sh\n") -> None:
        """Add a program to the PATH."""
        (self.path / name).write_text(text, encoding="utf-8")
        (self.path / name).chmod(0o755)

    def add_python(
        self, name: str, minor: int, *, venv: bool = True, headers: bool = True, broken: bool = False
    ) -> None:
        """Add a fake Python to the PATH, which reports the given version and abilities to the script."""
        state = {"minor": minor, "venv": venv, "headers": headers, "broken": "yes" if broken else ""}
        self.add(name, PYTHON.format(**state))

    def add_compilers(self) -> None:
        """Add fake compilers of C and C++ to the PATH."""
        self.add("cc")
        self.add("c++")

    def run(self, command: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the script with a command and environment variables."""
        environment = {"PATH": str(self.path), **variables}
        return subprocess.run(
            [SCRIPT, command, *arguments],
            cwd=self.work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def python(self) -> str:
        """Return the name of .venv's folder of packages, such as ``python3.12``."""
        [folder] = (self.work / ".venv" / "lib").iterdir()
        return folder.name


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    if sys.platform != "linux":
        pytest.skip("the embedded server, and what is said about it, is for Linux")
    return Machine(tmp_path)


class TestChoice:
    @pytest.mark.parametrize(
        ("pythons", "chosen"),
        [
            ({"python3.10": 10, "python3.11": 11, "python3.12": 12}, "python3.12"),
            ({"python3": 13, "python3.10": 10, "python3.11": 11}, "python3.11"),
            ({"python3": 10, "python3.13": 13}, "python3.10"),
            ({"python": 12}, "python3.12"),
            ({"python3": 13}, "python3.13"),
        ],
    )
    def test_takes_the_first_of_3_12_3_11_3_10_and_then_3_13(
        self, machine: Machine, pythons: dict[str, int], chosen: str
    ) -> None:
        machine.add_compilers()
        for name, minor in pythons.items():
            machine.add_python(name, minor)
        assert machine.run("create").returncode == 0
        assert machine.python() == chosen

    def test_passes_over_a_python_without_venv(self, machine: Machine) -> None:
        machine.add_python("python3.12", 12, venv=False)
        machine.add_python("python3.11", 11)
        assert machine.run("create").returncode == 0
        assert machine.python() == "python3.11"

    def test_takes_the_python_that_the_variable_names(self, machine: Machine) -> None:
        machine.add_python("python3.12", 12)
        machine.add_python("python3.10", 10)
        assert machine.run("create", PYTHON="python3.10").returncode == 0
        assert machine.python() == "python3.10"

    @pytest.mark.parametrize("minor", [9, 14])
    def test_rejects_a_named_python_that_cannot_serve(self, machine: Machine, minor: int) -> None:
        machine.add_python("mine", minor)
        done = machine.run("create", PYTHON="mine")
        assert done.returncode == 1
        assert done.stderr == f"expected Python 3.10 to 3.13, but PYTHON=mine is Python 3.{minor}\n"

    @pytest.mark.parametrize("lacks", ["compilers", "headers"])
    def test_uv_fetches_3_12_if_3_13_cannot_compile(self, machine: Machine, lacks: str) -> None:
        machine.add_python("python3", 13, headers=lacks != "headers")
        if lacks != "compilers":
            machine.add_compilers()
        machine.add("uv", '#!/bin/sh\necho "uv $*" >log\nmkdir .venv')
        done = machine.run("create")
        assert done.returncode == 0, done.stderr
        assert "uv fetches Python 3.12" in done.stderr
        assert (machine.work / "log").read_text() == "uv venv --quiet --seed --python 3.12 .venv\n"

    def test_pip_installs_a_missing_uv(self, machine: Machine) -> None:
        machine.add_python("python3", 9)
        assert machine.run("create").returncode == 0
        assert "--python 3.12 .venv" in (machine.work / "log").read_text()

    def test_says_what_to_install_if_no_python_fits(self, machine: Machine) -> None:
        machine.add_python("python3", 13, venv=False)
        done = machine.run("create")
        assert done.returncode == 1
        [sentence] = done.stderr.splitlines()
        assert "sudo apt install python3 python3-venv" in sentence

    def test_leaves_no_half_environment(self, machine: Machine) -> None:
        machine.add_python("python3.12", 12, broken=True)
        assert machine.run("create").returncode == 1
        assert not (machine.work / ".venv").exists()


class TestExistingEnvironment:
    def environment(self, machine: Machine, minor: int, made_by: int | None = None) -> None:
        """Make a .venv with Python 3.`minor`. If `made_by` is given, the folder of packages names 3.`made_by`."""
        machine.add_python("old", minor)
        subprocess.run([machine.path / "old", "-m", "venv", machine.work / ".venv"], check=True)
        if made_by:
            packages = machine.work / ".venv" / "lib"
            (packages / f"python3.{minor}").rename(packages / f"python3.{made_by}")

    def test_a_fitting_environment_is_kept(self, machine: Machine) -> None:
        self.environment(machine, 11)
        machine.add_python("python3.12", 12)
        done = machine.run("create")
        assert (done.returncode, done.stderr) == (0, "")
        assert machine.python() == "python3.11"

    def test_notices_a_python_that_cannot_serve(self, machine: Machine) -> None:
        self.environment(machine, 9)
        done = machine.run("create")
        assert done.returncode == 1
        assert done.stderr == "expected Python 3.10 to 3.13, but .venv has Python 3.9; run: rm -r .venv\n"

    def test_notices_another_python_than_the_variable_names(self, machine: Machine) -> None:
        self.environment(machine, 11)
        machine.add_python("python3.12", 12)
        done = machine.run("create", PYTHON="python3.12")
        assert done.returncode == 1
        assert ".venv has Python 3.11, and PYTHON=python3.12 is Python 3.12; run: rm -r .venv" in done.stderr

    def test_notices_that_the_system_s_python_was_upgraded(self, machine: Machine) -> None:
        self.environment(machine, 12, made_by=11)
        done = machine.run("create")
        assert done.returncode == 1
        assert "made by another Python than 3.12" in done.stderr

    def test_notices_that_the_python_of_the_environment_is_gone(self, machine: Machine) -> None:
        self.environment(machine, 11)
        (machine.work / ".venv" / "bin" / "python").unlink()
        done = machine.run("create")
        assert done.returncode == 1
        assert "does not start any more" in done.stderr


@pytest.fixture
def torch_index() -> Iterator[str]:
    """Yield the address of a fake package index, which answers every request."""

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has an NVIDIA card")
class TestTorchIndex:
    @pytest.fixture(autouse=True)
    def _environment_without_torch(self, machine: Machine) -> None:
        (machine.work / ".venv" / "bin").mkdir(parents=True)
        (machine.work / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
        (machine.work / ".venv" / "bin" / "python").chmod(0o755)

    def test_without_a_gpu_the_cpu_index_is_used_if_it_answers(self, machine: Machine, torch_index: str) -> None:
        done = machine.run("index", TORCH_INDEX=torch_index)
        assert done.stdout == f"--extra-index-url {torch_index}\n"
        assert done.stderr == "no NVIDIA card found: PyTorch comes from its CPU index\n"

    def test_the_index_is_for_the_named_environment(self, machine: Machine, torch_index: str) -> None:
        (machine.work / ".venv" / "bin" / "python").rename(machine.work / "other")
        done = machine.run("index", "./other", TORCH_INDEX=torch_index)
        assert done.stdout == f"--extra-index-url {torch_index}\n"

    def test_without_an_answer_of_the_cpu_index_pip_chooses(self, machine: Machine) -> None:
        done = machine.run("index", TORCH_INDEX="http://127.0.0.1:9")
        assert (done.returncode, done.stdout) == (0, "")
        assert "CPU index does not answer: pip chooses PyTorch" in done.stderr

    def test_on_a_machine_with_a_gpu_pip_chooses(self, machine: Machine, torch_index: str) -> None:
        machine.add("nvidia-smi")
        done = machine.run("index", TORCH_INDEX=torch_index)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_an_index_in_the_arguments_of_pip_is_used(self, machine: Machine, torch_index: str) -> None:
        done = machine.run("index", TORCH_INDEX=torch_index, PIP_ARGS="--extra-index-url https://mirror.example")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_shows_its_usage_for_an_unknown_command(machine: Machine) -> None:
    done = machine.run("serve")
    assert (done.returncode, done.stderr) == (1, "usage: build/environment.sh create | index | server\n")
