"""The embedded tritonserver is found, or the message says what is missing and what to do."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.stand_in import StandIn
from tuwen_build.allocation import ALLOCATOR_SETTINGS
from tuwen_build.errors import UnsupportedPlatformError
from tuwen_build.openmp import OPENMP_SETTINGS
from tuwen_build.server._runtime import find_runtime


def test_finds_the_binary_of_the_wheel(stand_in: StandIn) -> None:
    runtime = find_runtime()
    assert runtime.binary == stand_in.folder / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    assert runtime.binary.is_file()


@pytest.mark.usefixtures("stand_in")
def test_the_backends_are_the_wheel_s_python_and_our_pytorch(tmp_path: Path) -> None:
    find_runtime().assemble_backends(tmp_path / "backends")
    assert (tmp_path / "backends" / "python" / "triton_python_backend_stub").is_file()
    assert (tmp_path / "backends" / "pytorch" / "model.py").is_file()


def test_a_stub_starts_in_a_folder_without_modules(stand_in: StandIn, tmp_path: Path) -> None:
    """A stub looks for `model.py` and all that it imports in its working directory first."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stubs = stand_in.folder / "pytriton" / "tritonserver" / "python_backend_stubs"
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
    def test_freed_memory_is_kept_and_waiting_threads_sleep_soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = ALLOCATOR_SETTINGS | OPENMP_SETTINGS
        for name in settings:
            monkeypatch.delenv(name, raising=False)
        assert settings.items() <= find_runtime().environment().items()

    def test_settings_of_the_user_win(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
        assert find_runtime().environment()["MALLOC_TRIM_THRESHOLD_"] == "131072"

    def test_this_python_and_the_libraries_of_the_wheel_come_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LD_LIBRARY_PATH", "/of/the/user")
        runtime = find_runtime()
        environment = runtime.environment()
        assert environment["PATH"].startswith(str(Path(sys.executable).parent))
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

    @pytest.mark.usefixtures("stand_in")
    def test_names_the_extra_that_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
        with pytest.raises(UnsupportedPlatformError, match="pip install 'tuwen\\[serve\\]'"):
            find_runtime()

    def test_rejects_an_installation_for_the_user_alone(
        self, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("site.getusersitepackages", lambda: str(stand_in.folder))
        with pytest.raises(UnsupportedPlatformError, match="pip --user.*use a virtual environment"):
            find_runtime()

    def test_names_the_pythons_that_the_wheel_has_a_stub_for(self, stand_in: StandIn) -> None:
        stubs = stand_in.folder / "pytriton" / "tritonserver" / "python_backend_stubs"
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
