"""The fixture of a plain Triton client, for tests that do not use the SDK."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tritonclient.grpc

from tests.support.servers import RecordedServer


@pytest.fixture
def triton(server: RecordedServer) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    """Yield a plain `tritonclient` client that is connected to the shared server."""
    connection = tritonclient.grpc.InferenceServerClient(server.grpc_url)
    yield connection
    connection.close()
