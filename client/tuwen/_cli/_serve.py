"""`tuwen serve`: run a repository with the embedded tritonserver."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from tuwen._cli._options import JsonOption, needs_extra, print_json
from tuwen._errors import ServeError

__all__ = ["serve"]

_POLL_SECONDS = 0.2


def serve(
    repository: Annotated[Path, typer.Argument(help="A folder that `tuwen build` made.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on. The server has no password: open it to others with care.")
    ] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="For clients. 0 takes a free port.")] = 8001,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="For probes. 0 takes a free port.")] = 8000,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="For Prometheus. 0 takes a free port.")] = 8002,
    ready_timeout: Annotated[float, typer.Option(min=1, help="Seconds until all models must be loaded.")] = 300.0,
    drain_timeout: Annotated[int, typer.Option(min=0, help="Seconds for requests in flight when stopping.")] = 30,
    cache_mib: Annotated[int, typer.Option(min=0, help="Memory for vectors of texts that come again. 0: none.")] = 64,
    log_file: Annotated[Path | None, typer.Option(help="Append tritonserver's log to this file.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all of tritonserver's log.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Serve a repository with NVIDIA's tritonserver, without a container. Ctrl-C or SIGTERM drains and stops it."""
    with needs_extra("serve"):
        from tuwen_build.server import EmbeddedServer, ServerOptions, is_problem

    def show(line: str) -> None:
        if verbose or is_problem(line):
            typer.echo(line, err=True)

    options = ServerOptions(
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        ready_timeout=ready_timeout,
        drain_timeout=drain_timeout,
        cache_mib=cache_mib,
        log_file=log_file,
    )
    # SIGTERM like Ctrl-C: a clean stop in either case; a second one ends everything at once.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    typer.echo(f"loading {repository}", err=True)
    with EmbeddedServer(repository, options, on_log_line=show) as server:
        urls = {"grpc": server.grpc_url, "http": server.http_url, "metrics": server.metrics_url}
        if as_json:
            print_json({"ready": True, "pid": server.pid, **urls})
        else:
            typer.echo(f"ready: gRPC {urls['grpc']}, HTTP {urls['http']}, metrics {urls['metrics']}")
        try:
            while (code := server.poll()) is None:
                time.sleep(_POLL_SECONDS)
            raise ServeError(f"tritonserver ended by itself with code {code}:\n{server.telling_lines()}")
        except KeyboardInterrupt:
            typer.echo("stopping: letting requests in flight finish", err=True)
    typer.echo("stopped", err=True)
