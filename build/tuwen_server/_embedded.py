"""One tritonserver process: start, readiness, draining and cleaning up."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from types import TracebackType

from tritonclient.grpc.model_config_pb2 import ModelConfig

from tuwen import clock as system_clock
from tuwen.clock import Clock
from tuwen.connection import bracketed
from tuwen_repository.container_limits import memory_limit
from tuwen_server._drain import ModelControl
from tuwen_server._leftovers import Belongings, remove_leftovers
from tuwen_server._local_http import answers
from tuwen_server._log import LogFollower
from tuwen_server._overlay import Overlay
from tuwen_server._repositories import Repositories, Repository
from tuwen_server._runtime import Runtime, find_runtime
from tuwen_server._watch import Watch, accepts
from tuwen_server.errors import ServerStartError, SharedMemoryError, UnsupportedPlatformError
from tuwen_server.options import ServerOptions

__all__ = ["EmbeddedServer"]

_SHARED_MEMORY = Path("/dev/shm")
_MIB = 1 << 20
_SEGMENT_MIB = 8  # the initial segment of each Python process, which grows in steps of the same size
_ROOM_TO_GROW_MIB = 64
_PROCESS_BYTES = 64 * _MIB  # the memory that each Python process takes at least, beside its weights
_ATTEMPTS = 3  # to start the server
# On a busy machine, a process of Triton 2.51 may get no processor time while it holds a lock of the Python backend.
# The other process then ends with this error (https://github.com/triton-inference-server/server/issues/8882).
_LOCK_FAULT = "boost::interprocess::lock_exception"
_POLL_SECONDS = 0.1
_ASK_SECONDS = 10.0  # between two questions for the aliases, if the log says that no model was loaded or unloaded
_EXIT_SECONDS = 10  # time to unload models after the drain timeout; then the processes are killed


class EmbeddedServer:
    """NVIDIA's tritonserver on one or more built repositories, as a context manager.

    ::

        with EmbeddedServer(Path("repository"), ServerOptions.on_free_ports()) as server:
            with tuwen.Client(server.grpc_url) as clip:
                clip.embed_texts(["一只猫"])

    Args:
        repository: the folder of a repository, or a folder that holds repositories, or a sequence of such folders.
            Several repositories must have different names (``tuwen build --name``).
        options: the addresses, ports and timeouts of the server.
        on_log_line: a function that is called with every line of tritonserver's log, from another thread; None: no
            function.
        clock: the clock for starting, watching and stopping. Tests replace it.

    Raises (on entering):
        ServeError: a subclass in `tuwen_server.errors` says what failed.
    """

    def __init__(
        self,
        repository: Path | Sequence[Path],
        options: ServerOptions | None = None,
        *,
        on_log_line: Callable[[str], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._requested = options or ServerOptions()
        folders = [repository] if isinstance(repository, Path) else repository
        self._repositories = Repositories(folders, check_files=self._requested.check_files)
        self._overlay: Overlay | None = None
        self._aliases: list[ModelConfig] = []
        self._changes, self._asked = 0, -_ASK_SECONDS  # the number of changes and the time when `_aliases` was read
        self._options = self._requested
        self._on_log_line = on_log_line
        self._clock = clock or system_clock
        self._process: subprocess.Popen[str] | None = None
        self._watch: Watch | None = None
        self._log: LogFollower | None = None
        self._belongings: Belongings | None = None
        encrypted = any(argument.startswith("--grpc-use-ssl") for argument in self._requested.arguments)
        over_http = self._requested.http_inference and not encrypted  # Triton does not encrypt HTTP
        self._control = ModelControl(self._requested.key, http_inference=over_http, clock=self._clock)

    @property
    def grpc_url(self) -> str:
        """The address ``host:port`` for `tuwen.Client`."""
        return f"{self._options.reachable_host}:{self._options.grpc_port}"

    @property
    def http_url(self) -> str:
        """The address of Triton's HTTP API, for probes."""
        return f"http://{self._options.reachable_http_host}:{self._options.http_port}"

    @property
    def metrics_url(self) -> str:
        """The address of the Prometheus metrics."""
        return f"http://{self._options.reachable_host}:{self._options.metrics_port}/metrics"

    @property
    def pid(self) -> int:
        """The process id of tritonserver."""
        assert self._process is not None, "the server is not running"  # noqa: S101 - a caller's bug
        return self._process.pid

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def start(self) -> None:
        """Start tritonserver, and wait until it is ready. A stopped server can be started again.

        Raises:
            InvalidArgumentError: two repositories have the same name.
            NotARepositoryError: a folder is not a repository that `tuwen build` made.
            DamagedRepositoryError: files of the repository differ from the built files.
            ServerStartError: the server did not become ready. The message quotes its log.
            SharedMemoryError: /dev/shm is too small.
            UnsupportedPlatformError: the embedded server does not run on this machine, the machine computes int8
                slowly, or the memory limit of the container is too small.
        """
        repositories = self._repositories.checked()
        runtime = find_runtime()
        _check_memory(repositories)
        _check_shared_memory(repositories)
        for attempt in range(1, _ATTEMPTS + 1):
            self._options = self._requested.with_ports_resolved()
            try:
                self._launch(runtime, repositories)
                self._wait_until_ready()
                self._watch = Watch(self.pid, self.http_url, self._options.silence, self._clock)
            except ServerStartError as error:
                self.stop()
                if attempt == _ATTEMPTS or not self._may_succeed_next_time(str(error)):
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                return

    def _may_succeed_next_time(self, error: str) -> bool:
        """Return whether the cause of a failed start passes."""
        if _LOCK_FAULT in error:
            self._tell("error: a lock of the Python backend failed (server#8882), so tritonserver is started again")
            return True
        # Another process may have taken a free port before tritonserver listened on it.
        taken = "Address already in use" in error or "failed to bind" in error.lower()
        return taken and 0 in self._requested.ports.values()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def poll(self) -> int | None:
        """Return the exit code of a server that has ended; None: the server runs."""
        return None if self._process is None else self._process.poll()

    def trouble(self) -> str | None:
        """Return the permanent fault of the running server, with lines of its log; None if it is healthy."""
        if self._watch is None:
            return None
        code = self.poll()
        trouble = self._watch.trouble() if code is None else f"tritonserver ended by itself with code {code}"
        return trouble and f"{trouble}:\n{self._telling_lines()}".rstrip(":\n")

    def refresh(self) -> list[str]:
        """Find repositories that are new or were replaced since the start, so that they can be loaded.

        The current aliases are recorded, so that `restart` can set them again. The server is asked for its aliases when
        its log says that a model was loaded or unloaded, and every ten seconds, in case the log has no messages.

        Returns:
            Sentences for the log.
        """
        if self._overlay is None or self._log is None:
            return []
        changes, now = self._log.changes, self._clock.now()
        if changes != self._changes or now - self._asked >= _ASK_SECONDS:
            with contextlib.suppress(OSError, HTTPException, ValueError):  # the aliases of the last time are kept
                self._aliases = self._control.aliases(self.http_url, self._repositories.names)
                self._changes, self._asked = changes, now
        return self._repositories.refresh(self._overlay, lambda: self._control.names_in_use(self.http_url))

    def restart(self) -> None:
        """End the remaining processes, and start the server again on the same ports.

        Raises:
            ServeError: the server did not start, as in `start`.
        """
        self._end_process()  # the server is unhealthy, so there is nothing to drain
        self.stop()
        self._requested = self._options
        self.start()

    def _telling_lines(self) -> str:
        return self._log.telling_lines() if self._log else ""

    def stop(self) -> None:
        """Let requests in flight finish, end every process, and remove every shared-memory segment. Idempotent.

        Processes and segments are removed even if a second Ctrl-C interrupts the draining.
        """
        try:
            self._drain()
        finally:
            self._end_process()
            self._remove_belongings()
            self._close_log()

    def _end_process(self) -> None:
        """End the remaining processes of the server's process group: tritonserver and its stubs."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = self._watch = self._overlay = None

    def _remove_belongings(self) -> None:
        if self._belongings is not None:
            belongings, self._belongings = self._belongings, None
            for failure in belongings.remove():
                self._tell(f"error: {failure}")

    def _tell(self, line: str) -> None:
        """Add a line to the log of the server, or show it if the server has no log yet."""
        if self._log is not None:
            self._log.add(line)
        elif self._on_log_line is not None:
            self._on_log_line(line)

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def _drain(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        if answers(f"{self.http_url}/v2/health/ready"):
            lost = self._control.drain(self.http_url, self.metrics_url, self._options.drain_timeout)
            if lost:
                self._tell(f"error: {lost}")
        else:
            self._tell("error: the server was not ready, so requests in flight were not waited for")
        process.send_signal(signal.SIGTERM)
        deadline = self._clock.now() + self._options.drain_timeout + _EXIT_SECONDS
        while process.poll() is None and self._clock.now() < deadline:
            self._clock.pause(_POLL_SECONDS)
        if process.poll() is None:
            self._tell(f"error: tritonserver was still running {_EXIT_SECONDS} s after the drain timeout and is killed")

    def _launch(self, runtime: Runtime, repositories: Sequence[Repository]) -> None:
        try:
            for line in remove_leftovers():
                self._tell(line)
            self._belongings = belongings = Belongings()
            runtime.assemble_backends(belongings.folder)
            options = self._options
            overlay = Overlay(belongings.folder, queue_policies=options.queue_policies, cache_mib=options.cache_mib)
            self._repositories.lay_out(repositories, overlay)
            for config in self._aliases:
                overlay.add_alias(config)
        except OSError as error:
            where = error.filename2 or error.filename or tempfile.gettempdir()
            why = error.strerror or error  # shutil raises a list of errors for a folder
            raise ServerStartError(f"cannot write {where}: {why}; set TMPDIR to another folder") from error
        belongings.guard()
        self._process = subprocess.Popen(
            [str(runtime.binary), *self._arguments(overlay.folder, belongings)],
            env=runtime.environment(belongings.folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C must reach this process, which drains, and not the server
        )
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        self._overlay = overlay
        self._changes, self._asked = 0, -_ASK_SECONDS
        self._log = LogFollower(self._process.stdout, self._options.log_file, self._on_log_line)

    def _arguments(self, repository: Path, belongings: Belongings) -> list[str]:
        options = self._options
        segment = _SEGMENT_MIB * _MIB
        return [
            f"--model-repository={repository}",
            f"--backend-directory={belongings.folder}",
            "--disable-auto-complete-config",
            *self._control.arguments(),
            f"--http-address={_http_address(options.http_host)}",
            f"--http-port={options.http_port}",
            f"--grpc-address={bracketed(options.host)}",
            f"--grpc-port={options.grpc_port}",
            f"--metrics-address={_http_address(options.host)}",
            f"--metrics-port={options.metrics_port}",
            f"--exit-timeout-secs={options.drain_timeout}",
            f"--backend-config=python,shm-region-prefix-name={belongings.prefix}",
            f"--backend-config=python,shm-default-byte-size={segment}",
            f"--backend-config=python,shm-growth-byte-size={segment}",
            "--backend-config=python,stub-timeout-seconds=120",  # importing torch from a slow disk takes long
            *options.arguments,
        ]

    def _wait_until_ready(self) -> None:
        assert self._process is not None  # noqa: S101 - just launched
        deadline = self._clock.now() + self._options.ready_timeout
        # An HTTP answer alone may come from another server that took the port before ours started. So gRPC is checked
        # too: Triton listens for gRPC before it listens for HTTP, and ends if a port is taken.
        while not (answers(f"{self.http_url}/v2/health/ready") and accepts(self.grpc_url)):
            if (code := self._process.poll()) is not None:
                assert self._log is not None  # noqa: S101 - follows the process
                self._log.close()
                raise ServerStartError(f"tritonserver ended with code {code}:\n{self._telling_lines()}")
            if self._clock.now() > deadline:
                raise ServerStartError(
                    f"tritonserver was not ready after {self._options.ready_timeout:.0f} seconds:\n"
                    f"{self._telling_lines()}"
                )
            self._clock.pause(_POLL_SECONDS)


def _http_address(host: str) -> str:
    """Return a host in the notation of tritonserver's HTTP library (libevhtp), which marks IPv6 addresses."""
    return f"ipv6:{host}" if ":" in host else host


def _check_memory(repositories: Sequence[Repository]) -> None:
    """Check that the container's memory limit is large enough for the weights and the Python processes.

    Otherwise, the kernel would kill a process.
    """
    limit = memory_limit()
    needed = sum(repository.weights() + repository.processes() * _PROCESS_BYTES for repository in repositories)
    if limit is not None and limit < needed:
        raise UnsupportedPlatformError(
            f"the memory limit of this container is {limit // _MIB} MiB, but weights and processes need at least "
            f"{needed // _MIB} MiB; raise the limit (docker run --memory; in Kubernetes resources.limits.memory)"
        )


def _check_shared_memory(repositories: Sequence[Repository]) -> None:
    """Check that /dev/shm has space for the segment of every Python process."""
    processes = sum(repository.processes() for repository in repositories)
    needed = processes * _SEGMENT_MIB + _ROOM_TO_GROW_MIB
    free = shutil.disk_usage(_SHARED_MEMORY).free // _MIB
    if free < needed:
        raise SharedMemoryError(
            f"/dev/shm has {free} MiB free, but the server's {processes} Python processes need {needed} MiB; enlarge "
            "/dev/shm (docker run --shm-size=1g; in Kubernetes an emptyDir with medium: Memory at /dev/shm)"
        )
