"""Starting and stopping a server, with a fake tritonserver."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import wait_until
from tests.support.stand_in import HurriedClock, StandIn, group_members, segments
from tuwen_server import EmbeddedServer
from tuwen_server._local_http import answers
from tuwen_server.errors import ServerStartError

MakeServer = Callable[..., EmbeddedServer]
LOCK_FAULT = {
    "exit_code": 1,
    "log": ["terminate called after throwing an instance of 'boost::interprocess::lock_exception'"],
}
ADDRESS_IN_USE = {"exit_code": 1, "log": ["E0000 main.cc:1] failed to start HTTP service: Address already in use"]}


class TestStart:
    def test_returns_when_the_server_is_ready(
        self, make_server: MakeServer, stand_in: StandIn, clock: HurriedClock
    ) -> None:
        stand_in.behave(ready=False)

        def after_three_looks() -> None:
            if len(clock.pauses) == 3:
                stand_in.behave(ready=True)

        clock.on_pause = after_three_looks
        server = make_server()
        server.start()
        assert len(clock.pauses) >= 3
        assert answers(f"{server.http_url}/v2/health/ready")

    def test_passes_options_on_as_arguments(self, make_server: MakeServer, stand_in: StandIn) -> None:
        server = make_server(drain_timeout=7, arguments=("--log-verbose=1",))
        server.start()
        [arguments] = stand_in.starts()
        ports = [url.rpartition(":")[2] for url in (server.grpc_url, server.http_url)]
        assert {
            "--grpc-address=127.0.0.1",
            f"--grpc-port={ports[0]}",
            "--http-address=127.0.0.1",
            f"--http-port={ports[1]}",
            "--metrics-address=127.0.0.1",
            "--exit-timeout-secs=7",
            "--model-control-mode=explicit",
        } <= set(arguments)
        assert arguments[-1] == "--log-verbose=1"

    @pytest.mark.parametrize("options", [{}, {"queue_policies": True}, {"queue_policies": True, "cache_mib": 0}])
    def test_serves_a_folder_of_links_that_is_removed_with_the_server(
        self, make_server: MakeServer, stand_in: StandIn, repository: Path, options: dict[str, Any]
    ) -> None:
        server = make_server(**options)
        server.start()
        [served] = [Path(a.partition("=")[2]) for a in stand_in.starts()[0] if a.startswith("--model-repository=")]
        assert served != repository
        assert {path.name for path in served.iterdir()} == {
            path.parent.name for path in repository.glob("*/config.pbtxt")
        }
        server.stop()
        assert not served.exists()

    def test_triton_gets_no_response_cache(self, make_server: MakeServer, stand_in: StandIn) -> None:
        """tritonserver starts without its response cache, which stores a failed request as an empty success."""
        make_server(cache_mib=64).start()
        assert not [argument for argument in stand_in.starts()[0] if argument.startswith("--cache")]

    def test_gives_up_a_server_that_is_not_ready_in_time(
        self, make_server: MakeServer, stand_in: StandIn, clock: HurriedClock
    ) -> None:
        lines: list[str] = []
        stand_in.behave(ready=False, segments=2)

        def let_the_time_pass() -> None:
            if any("Started GRPCInferenceService" in line for line in lines):
                clock.time += 40

        clock.on_pause = let_the_time_pass
        with pytest.raises(ServerStartError, match="tritonserver was not ready after 1200 seconds:\n.*loading: text_"):
            make_server(ready_timeout=1200, on_log_line=lines.append).start()
        assert clock.time > 1200
        assert group_members(stand_in.pids()[0]) == []
        assert segments(stand_in.starts()[0]) == []

    def test_shows_the_errors_of_a_server_that_ends_while_it_loads(
        self, make_server: MakeServer, stand_in: StandIn
    ) -> None:
        error = (
            "E0101 01:02:03.000 17 model_lifecycle.cc:642] \"failed to load 'vision_encoder': bad\\n\\nAt:\\n  /x.py\""
        )
        no_gpu = "E0101 01:02:03.000 17 cuda.cc:1] CudaDriverHelper has not been initialized"
        information = [f"I0101 01:02:03.000 17 server.cc:1] information {number}" for number in range(50)]
        stand_in.behave(exit_code=3, log=[*information, no_gpu, error, error])
        with pytest.raises(ServerStartError) as caught:
            make_server().start()
        assert str(caught.value).splitlines() == [
            "tritonserver ended with code 3:",
            "failed to load 'vision_encoder': bad",
        ]

    def test_shows_the_last_lines_if_none_is_an_error(self, make_server: MakeServer, stand_in: StandIn) -> None:
        stand_in.behave(exit_code=1, log=[f"I0101 line {number}" for number in range(50)])
        with pytest.raises(ServerStartError) as caught:
            make_server().start()
        assert str(caught.value).splitlines()[1:] == [f"I0101 line {number}" for number in range(35, 50)]

    def test_chooses_other_ports_if_another_process_took_one_meanwhile(
        self, make_server: MakeServer, stand_in: StandIn
    ) -> None:
        stand_in.behave(starts=[ADDRESS_IN_USE, ADDRESS_IN_USE])
        server = make_server()
        server.start()
        assert len(stand_in.starts()) == 3
        assert f"--http-port={server.http_url.rpartition(':')[2]}" in stand_in.starts()[2]
        assert server.poll() is None

    def test_starts_again_after_the_fault_of_a_lock_in_the_python_backend(
        self, make_server: MakeServer, stand_in: StandIn
    ) -> None:
        said: list[str] = []
        stand_in.behave(starts=[LOCK_FAULT, LOCK_FAULT])
        server = make_server(on_log_line=said.append)
        server.start()
        assert len(stand_in.starts()) == 3
        assert (
            said.count("error: a lock of the Python backend failed (server#8882), so tritonserver is started again")
            == 2
        )
        assert server.poll() is None

    def test_gives_up_after_three_faults_of_a_lock(self, make_server: MakeServer, stand_in: StandIn) -> None:
        stand_in.behave(**LOCK_FAULT)
        with pytest.raises(
            ServerStartError, match="ended with code 1:\nterminate called after throwing .*lock_exception"
        ):
            make_server().start()
        assert len(stand_in.starts()) == 3

    def test_another_server_on_the_http_port_does_not_count_as_ready(
        self, make_server: MakeServer, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stand_in.behave(starts=[ADDRESS_IN_USE])
        monkeypatch.setattr("tuwen_server._embedded.answers", lambda _: True)
        server = make_server()
        server.start()
        assert len(stand_in.starts()) == 2
        assert server.poll() is None

    def test_gives_up_after_three_attempts_to_find_free_ports(self, make_server: MakeServer, stand_in: StandIn) -> None:
        stand_in.behave(**ADDRESS_IN_USE)
        with pytest.raises(ServerStartError, match="Address already in use"):
            make_server().start()
        assert len(stand_in.starts()) == 3

    def test_does_not_choose_other_ports_than_it_was_given(self, make_server: MakeServer, stand_in: StandIn) -> None:
        stand_in.behave(**ADDRESS_IN_USE)
        resolved = make_server()._requested.with_ports_resolved()
        with pytest.raises(ServerStartError, match="Address already in use"):
            make_server(
                **{f"{name}_port": getattr(resolved, f"{name}_port") for name in ("http", "grpc", "metrics")}
            ).start()
        assert len(stand_in.starts()) == 1

    def test_reads_a_log_that_is_larger_than_a_pipe(self, make_server: MakeServer, stand_in: StandIn) -> None:
        lines: list[str] = []
        stand_in.behave(flood=20_000)
        with make_server(on_log_line=lines.append):
            pass
        assert sum("of a flood" in line for line in lines) == 20_000


class TestStop:
    def test_stop_leaves_no_process_segment_or_folder(
        self, make_server: MakeServer, stand_in: StandIn, scratch: Path, tmp_path: Path
    ) -> None:
        lines: list[str] = []
        stand_in.behave(segments=2)
        with make_server(log_file=tmp_path / "server.log", on_log_line=lines.append) as server:
            assert server.poll() is None
            assert len(group_members(server.pid)) == 3  # the server and two stubs
            assert len(segments(stand_in.starts()[0])) == 2
            assert len(list(scratch.iterdir())) == 1
        assert stand_in.events() == ["started", "SIGTERM", "ended"]
        assert group_members(stand_in.pids()[0]) == []
        assert segments(stand_in.starts()[0]) == []
        assert list(scratch.iterdir()) == []
        assert any("Started GRPCInferenceService" in line for line in lines)
        assert (tmp_path / "server.log").read_text(encoding="utf-8").splitlines() == lines

    def test_stop_may_be_called_twice(self, make_server: MakeServer, stand_in: StandIn) -> None:
        server = make_server()
        server.start()
        server.stop()
        server.stop()
        assert stand_in.events() == ["started", "SIGTERM", "ended"]

    def test_a_stopped_server_can_be_started_again(self, make_server: MakeServer, stand_in: StandIn) -> None:
        server = make_server()
        for _ in range(2):
            server.start()
            assert answers(f"{server.http_url}/v2/health/ready")
            server.stop()
        assert stand_in.events() == ["started", "SIGTERM", "ended"] * 2

    def test_ends_stubs_that_outlive_a_killed_server(self, make_server: MakeServer, stand_in: StandIn) -> None:
        stand_in.behave(segments=2)
        with make_server() as server:
            os.kill(server.pid, signal.SIGKILL)
            wait_until(lambda: server.poll() is not None)
            assert len(group_members(stand_in.pids()[0])) == 2
        assert group_members(stand_in.pids()[0]) == []
        assert segments(stand_in.starts()[0]) == []

    def test_kills_a_server_that_ignores_sigterm(
        self, make_server: MakeServer, stand_in: StandIn, clock: HurriedClock
    ) -> None:
        stand_in.behave(ignores_sigterm=True, segments=1)
        server = make_server(drain_timeout=600)
        server.start()
        before = clock.time

        def let_the_time_pass() -> None:
            if "SIGTERM" in stand_in.events():
                clock.time += 40

        clock.on_pause = let_the_time_pass
        server.stop()
        assert stand_in.events() == ["started", "SIGTERM"]
        assert clock.time - before >= 610  # the drain timeout and ten seconds
        assert group_members(stand_in.pids()[0]) == []
        assert segments(stand_in.starts()[0]) == []

    def test_cleans_up_when_it_is_interrupted(
        self, make_server: MakeServer, stand_in: StandIn, clock: HurriedClock, scratch: Path
    ) -> None:
        stand_in.behave(ignores_sigterm=True, segments=1)
        server = make_server()
        server.start()

        def interrupt() -> None:
            raise KeyboardInterrupt

        clock.on_pause = interrupt
        with pytest.raises(KeyboardInterrupt):
            server.stop()
        assert group_members(stand_in.pids()[0]) == []
        assert segments(stand_in.starts()[0]) == []
        assert list(scratch.iterdir()) == []

    def test_cleans_up_when_the_start_is_interrupted(
        self, make_server: MakeServer, stand_in: StandIn, clock: HurriedClock, scratch: Path
    ) -> None:
        stand_in.behave(ready=False, segments=1)

        def interrupt() -> None:
            if stand_in.events():
                clock.on_pause = None
                raise KeyboardInterrupt

        clock.on_pause = interrupt
        with pytest.raises(KeyboardInterrupt):
            make_server().start()
        assert group_members(stand_in.pids()[0]) == []
        assert segments(stand_in.starts()[0]) == []
        assert list(scratch.iterdir()) == []
