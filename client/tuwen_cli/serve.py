"""`tuwen serve`: run a repository with the embedded tritonserver."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tuwen_cli.edge import warn_of_open_edge
from tuwen_cli.options import JsonOption, needs_extra, print_json
from tuwen_cli.parameters import expand_options, typer_option
from tuwen_cli.server import ensure_server
from tuwen_edge import EdgeOptions
from tuwen_edge.options import KEYS
from tuwen_server import ServerOptions

__all__ = ["serve"]


@expand_options
def serve(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="REPOSITORY... [-- ARGUMENT...]",
            help="Folders that `tuwen build` made, or folders that hold such folders. Several repositories need "
            "different names (`tuwen build --name`). Arguments after -- are passed to tritonserver, such as "
            "--trace-config=mode=opentelemetry.",
        ),
    ],
    options: ServerOptions,
    *,
    restarts: Annotated[
        int,
        typer.Option(min=0, help="Maximum number of restarts within ten minutes, if the server dies. 0: no restarts."),
    ] = 5,
    http_api: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port of the HTTP edge with the APIs of OpenAI, Cohere and others, as in `tuwen edge`. 0 takes a free "
            "port. Default: no HTTP edge.",
        ),
    ] = None,
    http_keys: Annotated[Path | None, typer_option(replace(KEYS, flags=("--http-keys",)))] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the whole log of tritonserver.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Serve repositories with NVIDIA's tritonserver, without a container.

    Ctrl-C, SIGTERM or SIGHUP stops the server after the requests in flight. A repository that appears later in a folder
    of repositories can be loaded with `tuwen models load`.
    """
    with needs_extra("serve"):
        from tuwen_server import EmbeddedServer, is_problem, supervise

    def show(line: str) -> None:
        if verbose or is_problem(line):
            typer.echo(line, err=True)

    for warning in _warnings(exposed=options.exposed, http_inference=options.http_inference):
        typer.secho(f"warning: {warning}", fg=typer.colors.YELLOW, err=True)
    ensure_server()
    repositories = [Path(argument) for argument in arguments if not argument.startswith("--")]
    options = replace(options, arguments=tuple(argument for argument in arguments if argument.startswith("--")))
    typer.echo(f"loading {', '.join(map(str, repositories))}", err=True)
    # A second signal ends everything at once.
    with EmbeddedServer(repositories, options, on_log_line=show) as server, ExitStack() as beside:
        try:
            urls = {"grpc": server.grpc_url, "http": server.http_url, "metrics": server.metrics_url}
            if http_api is not None:
                edge_options = EdgeOptions(url=server.grpc_url, host=options.host, port=http_api, keys=http_keys)
                urls["http_api"] = _start_edge(edge_options, beside)
            if as_json:
                print_json({"ready": True, "pid": server.pid, **urls})
            else:
                edge = f", HTTP API {urls['http_api']}" if "http_api" in urls else ""
                typer.echo(f"ready: gRPC {urls['grpc']}, HTTP {urls['http']}, metrics {urls['metrics']}{edge}")
            supervise(server, restarts=restarts, say=lambda line: typer.echo(line, err=True))
        except KeyboardInterrupt:
            typer.echo("stopping: letting requests in flight finish", err=True)
    typer.echo("stopped", err=True)


def _start_edge(options: EdgeOptions, beside: ExitStack) -> str:
    """Start the HTTP edge in a thread, and return its address. The edge stops when `beside` is closed."""
    from tuwen_edge import EdgeThread

    warn_of_open_edge(options)
    return beside.enter_context(EdgeThread(options)).address


def _warnings(*, exposed: bool, http_inference: bool) -> list[str]:
    """Return warnings about the embedded binary, Triton 2.51."""
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
