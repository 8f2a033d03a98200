"""`tuwen serve`: run a repository with the embedded tritonserver."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuwen_cli.options import JsonOption, needs_extra, print_json
from tuwen_cli.server import ensure_server

__all__ = ["serve"]


def serve(
    repository: Annotated[Path, typer.Argument(help="A folder that `tuwen build` made.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="After --, arguments of tritonserver, such as --trace-config=mode=opentelemetry."),
    ] = None,
    *,
    host: Annotated[
        str,
        typer.Option(help="Address for gRPC and metrics. The server has no password: open it to others with care."),
    ] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="For clients. 0 takes a free port.")] = 8001,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="For health checks. 0 takes a free port.")] = 8000,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="For Prometheus. 0 takes a free port.")] = 8002,
    http_inference: Annotated[
        bool,
        typer.Option(
            "--http-inference",
            help="Allow inference over HTTP, and HTTP on --host. Unsafe: one malformed HTTP request ends this server.",
        ),
    ] = False,
    queue_policies: Annotated[
        bool,
        typer.Option(
            "--queue-policies",
            help="Keep the queue policies and priorities of the built repository. Triton 2.51 then lets requests that "
            "arrive at once wait up to half a second for nothing.",
        ),
    ] = False,
    ready_timeout: Annotated[float, typer.Option(min=1, help="Seconds until all models must be loaded.")] = 300.0,
    drain_timeout: Annotated[int, typer.Option(min=0, help="Seconds for requests in flight when stopping.")] = 30,
    restarts: Annotated[
        int, typer.Option(min=0, help="How often within ten minutes a server that died is started again.")
    ] = 5,
    cache_mib: Annotated[int, typer.Option(min=0, help="Memory for vectors of the latest texts. 0: none.")] = 64,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="TUWEN_SERVER_KEY",
            show_envvar=True,
            help="What requests carry (triton-grpc-protocol-tuwen) that load models, register shared memory, or change "
            "tracing and logging. Without one nobody may.",
        ),
    ] = None,
    check: Annotated[bool, typer.Option(help="See first whether every file is what was built.")] = True,
    log_file: Annotated[Path | None, typer.Option(help="Append tritonserver's log to this file.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all of tritonserver's log.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Serve a repository with NVIDIA's tritonserver, without a container. Ctrl-C, SIGTERM and SIGHUP drain it."""
    with needs_extra("serve"):
        from tuwen_server import EmbeddedServer, ServerOptions, is_problem, supervise

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
        key=key,
        check_files=check,
        http_inference=http_inference,
        queue_policies=queue_policies,
        log_file=log_file,
        arguments=tuple(arguments or ()),
    )
    for warning in _warnings(exposed=options.exposed, http_inference=http_inference):
        typer.secho(f"warning: {warning}", fg=typer.colors.YELLOW, err=True)
    ensure_server()
    typer.echo(f"loading {repository}", err=True)
    # A second signal ends everything at once.
    with EmbeddedServer(repository, options, on_log_line=show) as server:
        try:
            urls = {"grpc": server.grpc_url, "http": server.http_url, "metrics": server.metrics_url}
            if as_json:
                print_json({"ready": True, "pid": server.pid, **urls})
            else:
                typer.echo(f"ready: gRPC {urls['grpc']}, HTTP {urls['http']}, metrics {urls['metrics']}")
            supervise(server, restarts=restarts, say=lambda line: typer.echo(line, err=True))
        except KeyboardInterrupt:
            typer.echo("stopping: letting requests in flight finish", err=True)
    typer.echo("stopped", err=True)


def _warnings(*, exposed: bool, http_inference: bool) -> list[str]:
    """Return what an operator should know about the embedded binary, Triton 2.51."""
    found = []
    if exposed:
        found.append(
            "--host opens this server to other machines, and it is Triton 2.51, which lacks the security fixes of "
            "NVIDIA's bulletins since 2025; serve production traffic with NVIDIA's newest container"
        )
    if http_inference:
        found.append(
            "--http-inference: one malformed HTTP request ends Triton 2.51 (CVE-2025-23310, -23311, NVIDIA security "
            "bulletin 5687); let only trusted callers reach the HTTP port"
        )
    return found
