"""The embedded tritonserver is found. Otherwise, the message says what is missing and what to do."""

from __future__ import annotations

import platform
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.stand_in import StandIn
from tuwen_repository.environment import ALLOCATOR_SETTINGS, OPENMP_SETTINGS, TF32_SETTINGS
from tuwen_server import _installation, _runtime
from tuwen_server._runtime import find_runtime
from tuwen_server.errors import UnsupportedPlatformError

BACKENDS = Path("/backends")


class Version(NamedTuple):
    """A version of Python, as `sys.version_info` has it."""

    major: int
    minor: int
    micro: int


def test_finds_the_binary_of_the_wheel(stand_in: StandIn) -> None:
    runtime = find_runtime()
    assert runtime.binary == stand_in.installation.tritonserver / "bin" / "tritonserver"
    assert runtime.binary.is_file()


@pytest.mark.usefixtures("stand_in")
def test_the_backends_are_the_wheel_s_python_and_our_pytorch(tmp_path: Path) -> None:
    find_runtime().assemble_backends(tmp_path / "backends")
    assert (tmp_path / "backends" / "python" / "triton_python_backend_stub").is_file()
    assert (tmp_path / "backends" / "pytorch" / "model.py").is_file()


class TestBackendOfNvidia:
    """TUWEN_PYTORCH_BACKEND replaces our `pytorch` backend with NVIDIA's."""

    @pytest.mark.usefixtures("stand_in")
    def test_takes_the_library_where_it_lies(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        backend = tmp_path / "opt" / "pytorch"
        backend.mkdir(parents=True)
        (backend / "libtriton_pytorch.so").touch()
        monkeypatch.setenv("TUWEN_PYTORCH_BACKEND", str(backend))
        find_runtime().assemble_backends(tmp_path / "backends")
        assert [path.name for path in (tmp_path / "backends" / "pytorch").iterdir()] == ["libtriton_pytorch.so"]
        assert (tmp_path / "backends" / "pytorch" / "libtriton_pytorch.so").samefile(backend / "libtriton_pytorch.so")

    @pytest.mark.usefixtures("stand_in")
    def test_an_empty_variable_means_our_own(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("TUWEN_PYTORCH_BACKEND", "")
        find_runtime().assemble_backends(tmp_path / "backends")
        assert (tmp_path / "backends" / "pytorch" / "model.py").is_file()

    @pytest.mark.usefixtures("stand_in")
    def test_rejects_a_folder_without_the_library(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("TUWEN_PYTORCH_BACKEND", str(tmp_path))
        with pytest.raises(UnsupportedPlatformError, match=r"where libtriton_pytorch\.so is missing; name the folder"):
            find_runtime()


def test_a_stub_starts_in_a_folder_without_modules(stand_in: StandIn, tmp_path: Path) -> None:
    """A stub's working directory holds no modules, because a stub looks there first for every import."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stubs = stand_in.installation.tritonserver / "python_backend_stubs"
    stub = stubs / version / "triton_python_backend_stub"
    stub.write_text('#!/bin/sh\necho "$$"\npwd\nfor argument in "$@"; do echo "$argument"; done\n', encoding="utf-8")
    stub.chmod(0o755)
    backends, served_from = tmp_path / "it's a folder", tmp_path / "served from"
    served_from.mkdir()
    (served_from / "model.py").touch()
    find_runtime().assemble_backends(backends)
    command = [backends / "python" / stub.name, "two words", "$HOME"]
    with subprocess.Popen(command, cwd=served_from, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=60)
    pid, folder, *arguments = output.splitlines()
    assert int(pid) == process.pid, "signals must reach the stub itself"
    assert list(Path(folder).glob("*.py")) == []
    assert arguments == ["two words", "$HOME"]


@pytest.mark.usefixtures("stand_in")
class TestEnvironment:
    def test_sets_the_variables_of_allocator_threads_and_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = ALLOCATOR_SETTINGS | OPENMP_SETTINGS | TF32_SETTINGS
        for name in settings:
            monkeypatch.delenv(name, raising=False)
        assert settings.items() <= find_runtime().environment(BACKENDS).items()

    def test_variables_of_the_user_take_precedence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
        environment = find_runtime().environment(BACKENDS)
        assert (environment["MALLOC_TRIM_THRESHOLD_"], environment["NVIDIA_TF32_OVERRIDE"]) == ("131072", "1")

    @pytest.mark.parametrize(
        ("limit", "cores", "threads"), [(None, 16, None), (64.0, 16, None), (2.0, 2, "2"), (1.5, 2, "2")]
    )
    def test_threads_follow_the_limit_of_the_control_group(
        self, monkeypatch: pytest.MonkeyPatch, limit: float | None, cores: int, threads: str | None
    ) -> None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(_runtime, "core_limit", lambda: limit)
        monkeypatch.setattr(_runtime, "usable_cores", lambda: cores)
        assert find_runtime().environment(BACKENDS).get("OMP_NUM_THREADS") == threads
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        assert find_runtime().environment(BACKENDS)["OMP_NUM_THREADS"] == "7"

    def test_the_private_interpreter_and_the_libraries_of_the_wheel_come_first(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LD_LIBRARY_PATH", "/of/the/user")
        runtime = find_runtime()
        environment = runtime.environment(BACKENDS)
        assert environment["PATH"].startswith(f"{BACKENDS}/interpreter/bin:")
        libraries = [*map(str, runtime.library_path), "/of/the/user"]
        assert environment["LD_LIBRARY_PATH"].split(":") == libraries


class TestUnsupportedPlatforms:
    def test_rejects_another_operating_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "system", lambda: "Darwin")
        with pytest.raises(UnsupportedPlatformError, match="runs on Linux x86_64, this is Darwin"):
            find_runtime()

    @pytest.mark.parametrize("libc", [("glibc", "2.31"), ("", "")])
    def test_rejects_another_c_library(self, monkeypatch: pytest.MonkeyPatch, libc: tuple[str, str]) -> None:
        monkeypatch.setattr(platform, "system", lambda: "Linux")
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(platform, "libc_ver", lambda: libc)
        with pytest.raises(UnsupportedPlatformError, match=r"needs glibc 2\.35 or newer"):
            find_runtime()

    def test_says_how_to_install_the_server(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("TUWEN_SERVER_FOLDER", str(tmp_path / "nothing"))
        with pytest.raises(UnsupportedPlatformError, match="not installed in .*nothing.*; run: tuwen server install"):
            find_runtime()

    def test_an_installation_without_its_numpy_is_not_taken(self, stand_in: StandIn) -> None:
        (stand_in.installation.packages / "numpy").rmdir()
        with pytest.raises(UnsupportedPlatformError, match="run: tuwen server install"):
            find_runtime()

    @pytest.mark.parametrize("version", [(3, 9, 0), (3, 14, 0)])
    def test_names_the_pythons_that_can_serve(
        self, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int]
    ) -> None:
        monkeypatch.setattr(_installation.sys, "version_info", Version(*version))
        with pytest.raises(
            UnsupportedPlatformError, match=rf"needs Python 3\.10 to 3\.13, this is Python 3\.{version[1]}"
        ):
            find_runtime()

    def test_names_the_pythons_that_the_wheel_has_a_stub_for(self, stand_in: StandIn) -> None:
        stubs = stand_in.installation.tritonserver / "python_backend_stubs"
        [version] = stubs.iterdir()
        version.rename(stubs / "3.4")
        with pytest.raises(UnsupportedPlatformError, match=r"no stub for Python \d\.\d+, only for 3\.4"):
            find_runtime()

    @pytest.mark.usefixtures("stand_in")
    def test_says_how_to_install_libpython(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sysconfig, "get_config_var", lambda _: "/nowhere")
        monkeypatch.setattr(sys, "base_prefix", "/nowhere")
        monkeypatch.setattr(Path, "exists", lambda _: False)
        with pytest.raises(UnsupportedPlatformError, match="sudo apt install libpython3"):
            find_runtime()
