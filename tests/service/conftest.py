"""A fixture for tests of clients that know Triton but not the SDK."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tritonclient.grpc

from tests.support.servers import RecordedServer


@pytest.fixture
def triton(server: RecordedServer) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    """A plain Triton client of the shared server."""
    connection = tritonclient.grpc.InferenceServerClient(server.grpc_url)
    yield connection
    connection.close()
