"""A fixture for tests with a client of Triton that does not use the SDK."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tritonclient.grpc

from tests.support.servers import RecordedServer


@pytest.fixture
def triton(server: RecordedServer) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    """Yield a client of tritonclient that is connected to the shared server."""
    connection = tritonclient.grpc.InferenceServerClient(server.grpc_url)
    yield connection
    connection.close()
