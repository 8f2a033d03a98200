"""`tuwen probe`: check by a small inference that a server computes, for health checks of containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuwen import ServerUnavailableError
from tuwen.clock import Deadline
from tuwen_cli.connection import settings
from tuwen_cli.health_probe import NotAnsweredError
from tuwen_cli.health_probe import probe as probed

if TYPE_CHECKING:
    from tuwen import Tls

__all__ = ["GrpcWire", "probe"]


def probe(
    url: Annotated[
        str,
        typer.Argument(envvar="TUWEN_URL", help="host:port of the server's gRPC endpoint, such as localhost:8001."),
    ] = "localhost:8001",
    model: Annotated[
        list[str] | None,
        typer.Option(help="Name of a model, as in `tuwen build --name`. Repeat for more. Default: all models."),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1, help="Maximum time in seconds for all requests together. It must be longer than the slowest batch."
        ),
    ] = 5.0,
) -> None:
    """Check that a server computes: embed one word and one small image.

    The exit code is 1 if the server does not compute. The server's own health check is not enough, because it reports
    ready even if the process of a model hangs. A busy server passes: if the requests wait too long, the server passes
    as long as its models finish other batches meanwhile.
    """
    seconds = Deadline(timeout).remaining()
    tls, headers = settings()
    try:
        probed(GrpcWire(url, tls, headers), models=tuple(model or ()), timeout=seconds)
    except NotAnsweredError as error:
        raise ServerUnavailableError(f"{url} does not compute: {error}") from error
    typer.echo(f"{url} computes")


class GrpcWire:
    """A connection to Triton's gRPC port, whose calls are not retried.

    Args:
        url: host:port of the server's gRPC endpoint.
        tls: the TLS settings; None: the connection is not encrypted.
        headers: the headers of each request.
        options: additional options of the gRPC channel.
    """

    def __init__(self, url: str, tls: Tls | None, headers: dict[str, str], **options: int) -> None:
        import grpc
        from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

        from tuwen.connection import channel_options, channel_target, checked_headers

        target = channel_target(url)
        chosen = [*channel_options(target, tls), *options.items()]
        if tls is None:
            self._channel = grpc.insecure_channel(target, chosen)
        else:
            self._channel = grpc.secure_channel(target, tls.credentials(), chosen)
        self._stub, self._error = GRPCInferenceServiceStub(self._channel), grpc.RpcError
        self._metadata = checked_headers(headers)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def check_ready(self, timeout: float) -> None:
        """Raise an error if the server is not ready, as `Wire.check_ready` does."""
        from tritonclient.grpc import service_pb2

        if not self.call("ServerReady", service_pb2.ServerReadyRequest(), timeout).ready:
            raise NotAnsweredError("the server is not ready")

    def infer(self, model: str, input_name: str, item: bytes, timeout: float) -> None:
        """Compute one embedding, as `Wire.infer` does."""
        from tritonclient.grpc import service_pb2

        message = service_pb2.ModelInferRequest(model_name=model)
        message.inputs.add(name=input_name, datatype="BYTES", shape=[1, 1])
        message.outputs.add(name="embedding")
        message.raw_input_contents.append(len(item).to_bytes(4, "little") + item)
        message.parameters["timeout"].int64_param = max(1, int(timeout * 1e6))
        self.call("ModelInfer", message, timeout)

    def executions(self, timeout: float) -> dict[str, int]:
        """Return the number of batches that each model has computed, as `Wire.executions` does."""
        from tritonclient.grpc import service_pb2

        try:
            found = self.call("ModelStatistics", service_pb2.ModelStatisticsRequest(), timeout)
        except NotAnsweredError:
            return {}
        return {model.name: model.execution_count for model in found.model_stats}

    def call(self, method: str, message: Any, timeout: float) -> Any:
        """Call a method of Triton's service, and return the response.

        Raises:
            NotAnsweredError: the call failed, or no answer came before the timeout.
        """
        try:
            return getattr(self._stub, method)(message, timeout=max(0.05, timeout), metadata=self._metadata)
        except self._error as error:
            code = error.code().name
            late = f"no answer within {timeout:.1f} s" if code == "DEADLINE_EXCEEDED" else f"{code}: {error.details()}"
            raise NotAnsweredError(late) from error
