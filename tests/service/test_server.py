"""The embedded server starts, tells why it cannot, and leaves nothing behind."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import numpy as np
import psutil
import pytest

from tests.support import metrics
from tests.support.command import TUWEN, started, tuwen, wait_until
from tests.support.servers import RecordedServer
from tuwen import Client, InvalidArgumentError, RetryPolicy
from tuwen_build.allocation import ALLOCATOR_SETTINGS
from tuwen_build.errors import (
    DamagedRepositoryError,
    NotARepositoryError,
    PortTakenError,
    ServerStartError,
    SharedMemoryError,
    UnsupportedPlatformError,
)
from tuwen_build.manifest import Manifest
from tuwen_build.openmp import OPENMP_SETTINGS
from tuwen_build.samples import sample
from tuwen_build.server import EmbeddedServer, ServerOptions, _runtime, supervise

pytestmark = pytest.mark.alone

ON_FREE_PORTS = ServerOptions.on_free_ports()


def segments() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()}


def group_members(leader: int) -> list[int]:
    """The processes that are still in the server's process group."""
    members = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        if int(fields[2]) == leader and fields[0] != "Z":
            members.append(int(status.parent.name))
    return members


class TestLife:
    def test_it_serves_and_leaves_nothing_behind(self, repository: Path, tmp_path: Path) -> None:
        before, scratch_before = segments(), set(Path("/tmp").glob("tuwen-server-*"))
        lines: list[str] = []
        options = dataclasses.replace(ON_FREE_PORTS, log_file=tmp_path / "server.log")
        with RecordedServer(repository, options, on_log_line=lines.append) as server:
            pid = server.pid
            assert server.poll() is None
            assert len(group_members(pid)) == 5  # tritonserver and four Python models
            with Client(server.grpc_url) as clip:
                assert clip.embed_texts(["猫"]).shape == (1, 64)
        assert group_members(pid) == []
        assert segments() <= before
        assert set(Path("/tmp").glob("tuwen-server-*")) <= scratch_before
        assert any("Started GRPCInferenceService" in line for line in lines)
        assert (tmp_path / "server.log").read_text().splitlines() == lines

    def test_it_listens_on_loopback_only(self, server: EmbeddedServer) -> None:
        ports = {
            int(url.rpartition(":")[2].split("/")[0]) for url in (server.grpc_url, server.http_url, server.metrics_url)
        }
        mapped = "0000000000000000FFFF00000100007F"  # ::ffff:127.0.0.1, which is how gRPC writes it
        for table, loopback in (("tcp", "0100007F"), ("tcp6", mapped)):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                address, port = line.split()[1].split(":")
                if line.split()[3] == "0A" and int(port, 16) in ports:
                    assert address == loopback

    def test_stopping_twice_is_harmless(self, repository: Path) -> None:
        server = RecordedServer(repository, ON_FREE_PORTS)
        with server:
            server.stop()
        server.stop()

    def test_stubs_do_not_outlive_a_killed_server(self, repository: Path) -> None:
        before = segments()
        with RecordedServer(repository, ON_FREE_PORTS) as server:
            pid = server.pid
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: server.poll() is not None)
        assert group_members(pid) == []
        assert segments() <= before

    def test_requests_in_flight_finish_when_it_stops(self, repository: Path) -> None:
        from concurrent.futures import ThreadPoolExecutor

        photograph = sample("coffee.jpg").read_bytes()
        with ThreadPoolExecutor(1) as pool:
            with RecordedServer(repository, ON_FREE_PORTS) as server:
                clip = Client(server.grpc_url, timeout=60)
                clip.model_card()
                in_flight = pool.submit(clip.embed_images, [photograph] * 64)
                while metrics.counters(server.metrics_url)["nv_inference_count", "vision_encoder"] < 4:
                    time.sleep(0.005)
            assert in_flight.result(timeout=60).shape == (64, 64)
            clip.close()


class TestEnvironment:
    """Freed memory is kept for the next batch, and waiting threads sleep soon, unless the user knows better."""

    def test_every_process_has_the_settings(self, server: EmbeddedServer) -> None:
        for member in group_members(server.pid):
            environment = Path(f"/proc/{member}/environ").read_text().split("\0")
            settings = ALLOCATOR_SETTINGS | OPENMP_SETTINGS
            assert {f"{name}={value}" for name, value in settings.items()} <= set(environment)

    def test_what_the_user_sets_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
        environment = _runtime.find_runtime().environment()
        assert environment["MALLOC_TRIM_THRESHOLD_"] == "131072"


class TestRefusals:
    def test_a_folder_that_was_not_built(self, tmp_path: Path) -> None:
        with pytest.raises(NotARepositoryError, match="tuwen build CHECKPOINT --output"), RecordedServer(tmp_path):
            pass

    def test_a_port_that_is_taken(self, repository: Path) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            options = dataclasses.replace(ON_FREE_PORTS, grpc_port=port)
            message = f"cannot listen on 127.0.0.1:{port} for gRPC: Address already in use"
            with pytest.raises(PortTakenError, match=message), RecordedServer(repository, options):
                pass

    def test_a_broken_model_shows_the_lines_that_matter(self, repository: Path, tmp_path: Path) -> None:
        before = segments()
        broken = shutil.copytree(repository, tmp_path / "broken")
        (broken / "vision_encoder" / "1" / "model.pt").write_bytes(b"not TorchScript")
        unchecked = dataclasses.replace(ON_FREE_PORTS, check_files=False)
        with pytest.raises(ServerStartError) as caught, RecordedServer(broken, unchecked):
            pass
        message = str(caught.value)
        assert "failed to load 'vision_encoder'" in message
        assert "PytorchStreamReader" in message
        assert len(message.splitlines()) < 15
        assert segments() <= before

    def test_a_repository_that_a_bad_copy_damaged(self, repository: Path, tmp_path: Path) -> None:
        damaged = shutil.copytree(repository, tmp_path / "damaged")
        weights = damaged / "vision_encoder" / "1" / "model.pt"
        content = bytearray(weights.read_bytes())
        content[len(content) // 2] ^= 1  # of which Triton would not know
        weights.write_bytes(content)
        (damaged / "text_tokenization" / "1" / "vocab.txt").unlink()
        with pytest.raises(DamagedRepositoryError) as caught, RecordedServer(damaged, ON_FREE_PORTS):
            pass
        assert "vision_encoder/1/model.pt is not what was built" in str(caught.value)
        assert "text_tokenization/1/vocab.txt is missing" in str(caught.value)

    def test_configs_are_the_operator_s_to_edit(self, repository: Path, tmp_path: Path) -> None:
        edited = shutil.copytree(repository, tmp_path / "edited")
        config = edited / "text_encoder" / "config.pbtxt"
        config.write_text(config.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
        Manifest.read(edited).check(edited)

    def test_a_server_that_is_not_ready_in_time(self, repository: Path) -> None:
        options = dataclasses.replace(ON_FREE_PORTS, ready_timeout=0.3)
        with pytest.raises(ServerStartError, match="not ready after 0 seconds"), RecordedServer(repository, options):
            pass

    def test_shared_memory_that_is_too_small(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(64 << 20, 0, 64 << 20))  # type: ignore[attr-defined]
        message = "64 MiB free, the server's 4 Python processes need 96; .*--shm-size"
        with pytest.raises(SharedMemoryError, match=message), RecordedServer(repository, ON_FREE_PORTS):
            pass

    def test_another_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "system", lambda: "Darwin")
        with pytest.raises(UnsupportedPlatformError, match="runs on Linux x86_64, this is Darwin"):
            _runtime.find_runtime()

    @pytest.mark.parametrize("libc", [("glibc", "2.31"), ("", "")])
    def test_another_c_library(self, monkeypatch: pytest.MonkeyPatch, libc: tuple[str, str]) -> None:
        monkeypatch.setattr(platform, "libc_ver", lambda: libc)
        with pytest.raises(UnsupportedPlatformError, match=r"needs glibc 2\.35 or newer"):
            _runtime.find_runtime()

    def test_a_missing_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
        with pytest.raises(UnsupportedPlatformError, match="pip install 'tuwen\\[serve\\]'"):
            _runtime.find_runtime()

    def test_a_missing_libpython(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sysconfig, "get_config_var", lambda _: "/nowhere")
        monkeypatch.setattr(sys, "base_prefix", "/nowhere")
        monkeypatch.setattr(Path, "exists", lambda _: False)
        with pytest.raises(UnsupportedPlatformError, match="sudo apt install libpython3"):
            _runtime.find_runtime()

    @pytest.mark.parametrize(
        "choice",
        [
            {"grpc_port": 70_000},
            {"grpc_port": 8000},
            {"ready_timeout": 0},
            {"drain_timeout": -1},
            {"arguments": ("verbose",)},
            {"arguments": ("--grpc-port=1",)},
        ],
    )
    def test_nonsense_options(self, choice: dict[str, object]) -> None:
        with pytest.raises(InvalidArgumentError):
            ServerOptions(**choice)  # type: ignore[arg-type]


def read_until(stream: IO[str], words: str) -> None:
    """Up to the first line with these words; an end without one fails."""
    lines = []
    for line in stream:
        if words in line:
            return
        lines.append(line)
    pytest.fail(f"{words!r} was not said: {lines}")


class TestCommand:
    """`tuwen serve`, as an operator runs it."""

    def _start(self, repository: Path, *options: str) -> AbstractContextManager[subprocess.Popen[str]]:
        free_ports = ("--grpc-port", "0", "--http-port", "0", "--metrics-port", "0")
        command = [TUWEN, "serve", str(repository), *free_ports, "--json", *options]
        return started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_stops_it_cleanly(self, repository: Path, number: signal.Signals) -> None:
        before = segments()
        with self._start(repository) as process:
            assert process.stdout is not None
            started = json.loads(process.stdout.readline())
            with Client(started["grpc"]) as clip:
                assert clip.is_ready()
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 0
        assert errors.splitlines() == [
            f"loading {repository}",
            "stopping: letting requests in flight finish",
            "stopped",
        ]
        assert group_members(started["pid"]) == []
        assert segments() <= before

    def test_a_second_signal_ends_it_at_once(self, repository: Path) -> None:
        before = segments()
        with self._start(repository) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            started = json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            read_until(process.stderr, "stopping")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        assert process.returncode == 130
        assert group_members(started["pid"]) == []
        assert segments() <= before

    def test_a_signal_while_it_loads_stops_it_too(self, repository: Path) -> None:
        before = segments()
        with self._start(repository, "--verbose") as process:
            assert process.stderr is not None
            read_until(process.stderr, "loading: text_encoder")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        assert process.returncode == 130
        assert segments() <= before

    def test_a_server_that_dies_too_often_is_given_up(self, repository: Path) -> None:
        with self._start(repository, "--restarts", "1") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            started = json.loads(process.stdout.readline())
            os.kill(started["pid"], signal.SIGKILL)
            read_until(process.stderr, "ready again")
            with Client(started["grpc"]) as clip:  # where it was before
                assert clip.embed_texts(["一只猫"]).shape == (1, 64)
            [server] = psutil.Process(process.pid).children()
            server.kill()
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "tritonserver ended by itself with code -9" in errors
        assert "1 restarts within ten minutes have not mended it" in errors

    @pytest.mark.parametrize("model", ["text_tokenization", "text_encoder"])
    def test_a_model_whose_process_died_is_started_again(self, repository: Path, model: str) -> None:
        """Which Triton 2.51 does not notice: it stays ready, and every request fails."""
        before = segments()
        with self._start(repository) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            started = json.loads(process.stdout.readline())
            with Client(started["grpc"], timeout=60, retries=RetryPolicy(attempts=12)) as clip:
                expected = clip.embed_texts(["一只猫"])
                stubs = psutil.Process(started["pid"]).children()
                [stub] = [child for child in stubs if f"{model}_0_0" in child.cmdline()]
                stub.kill()
                read_until(process.stderr, f"the Python process of {model} died")
                read_until(process.stderr, "ready again")
                np.testing.assert_allclose(clip.embed_texts(["一只猫"]), expected, atol=1e-5)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        assert process.returncode == 0
        assert segments() <= before

    def test_a_server_that_hangs_is_started_again(self, repository: Path) -> None:
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            if "ready again" in line:
                raise KeyboardInterrupt

        with RecordedServer(repository, dataclasses.replace(ON_FREE_PORTS, silence=3.0)) as running:
            os.killpg(running.pid, signal.SIGSTOP)
            with pytest.raises(KeyboardInterrupt):
                supervise(running, restarts=1, say=say)
            with Client(running.grpc_url) as clip:
                assert clip.is_ready()
        assert "tritonserver has not answered for" in said[0]

    def test_no_room_for_temporary_files_is_told(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tempfile.tempdir", "/dev/null/nowhere")
        with pytest.raises(ServerStartError, match=r"cannot write /dev/null/nowhere.*TMPDIR names another place"):
            RecordedServer(repository, ON_FREE_PORTS).start()

    def test_a_folder_that_was_not_built_is_one_line(self, tmp_path: Path) -> None:
        assert "is not a built repository" in tuwen("serve", str(tmp_path), code=1).stderr


class TestMetrics:
    def test_the_python_models_count(self, server: EmbeddedServer, client: Client) -> None:
        before = metrics.text(server.metrics_url)
        client.embed_images([sample("cat.jpg")] * 3)
        with pytest.raises(ValueError, match="refused"):
            client.embed_images([b"", b"x"])
        with pytest.warns(UserWarning, match="were cut"):
            client.embed_texts(["猫" * 100, "狗" * 100])
        after = metrics.text(server.metrics_url)

        def moved(sample_name: str) -> float:
            pattern = re.compile(rf"^{re.escape(sample_name)} (\S+)$", re.MULTILINE)
            values = [float(match[1]) if (match := pattern.search(page)) else 0.0 for page in (before, after)]
            return values[1] - values[0]

        assert moved("tuwen_image_decode_seconds_count") == 5
        assert 0 < moved("tuwen_image_decode_seconds_sum") < 5
        assert moved('tuwen_image_decode_failures_total{reason="empty"}') == 1
        assert moved('tuwen_image_decode_failures_total{reason="unsupported_format"}') == 1
        assert moved("tuwen_texts_truncated_total") == 2
