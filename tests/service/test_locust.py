"""A Locust load test with the SDK on the real server: Locust and the server count the same requests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.support.command import wait_until
from tests.support.locust import run_locust
from tuwen import Client
from tuwen_loadtest._samples import read_samples
from tuwen_server import EmbeddedServer

USERS = 20


def test_locust_counts_what_the_server_counted(server: EmbeddedServer, tmp_path: Path) -> None:
    """Locust counts as many image and text requests as the server.

    The run also ends by itself. Under gevent, a process with an open gRPC channel would not end.
    """
    file = tmp_path / "samples.npz"
    with Client(server.grpc_url) as clip:

        def requests() -> tuple[int, int]:
            statistics = clip.statistics()
            return statistics["image_embedding"].requests, statistics["text_embedding"].requests

        # A server counts a request shortly after the answer. Wait until all requests of earlier tests are counted.
        wait_until(lambda: requests() == requests())
        images_before, texts_before = requests()
        options = ["--users", str(USERS), "--spawn-rate", str(USERS), "--run-time", "2s", "--stop-timeout", "60"]
        output = run_locust("--host", server.grpc_url, *options, "--samples", str(file))
        samples = read_samples(file)
        kinds = Counter(sample.kind for sample in samples)
        assert {sample.outcome for sample in samples} == {"answered"}
        assert set(kinds) == {"image", "text", "similarity"}  # the users' seeds make all three kinds appear
        assert len(samples) >= USERS
        assert f"Aggregated {len(samples)} " in " ".join(output.split())  # Locust's own table
        images, texts, both = kinds["image"], kinds["text"], kinds["similarity"]
        wait_until(lambda: requests()[0] >= images_before + images + both)
        assert requests()[0] == images_before + images + both
        # A text call sends one text request. A similarity call sends one for each of its one to five texts.
        assert texts + both <= requests()[1] - texts_before <= texts + 5 * both
