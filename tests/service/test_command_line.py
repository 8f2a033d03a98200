"""Tests of the commands that call a server, run in the test's process."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.support.command import tuwen, wait_until
from tuwen import Client
from tuwen_repository.samples import sample
from tuwen_server import EmbeddedServer

CAT, COFFEE = str(sample("cat.jpg")), str(sample("coffee.jpg"))


@pytest.mark.parametrize(
    "command", [(), ("build",), ("serve",), ("status",), ("embed",), ("similarity",), ("classify",)]
)
def test_prints_help(command: tuple[str, ...]) -> None:
    assert "Usage: tuwen" in tuwen(*command, "--help").stdout


class TestStatus:
    def test_shows_the_model_card_and_the_servers_counters(self, server: EmbeddedServer, client: Client) -> None:
        client.embed_texts(["猫"])
        assert "context length" in tuwen("status", "--url", server.grpc_url, "--over", "0").stdout
        status = json.loads(tuwen("status", "--url", server.grpc_url, "--json", "--over", "0").stdout)
        assert status["ready"] is True
        assert status["model_card"]["fingerprint"] == client.model_card().fingerprint
        wait_until(lambda: client.statistics()["text_encoder"].requests > 0)
        counted = json.loads(tuwen("status", "--url", server.grpc_url, "--json", "--over", "0").stdout)["models"]
        assert set(counted) >= {"image_embedding", "text_embedding", "vision_encoder", "text_encoder"}
        assert counted["text_encoder"]["requests"] > 0
        assert counted["text_encoder"]["mean_batch_size"] >= 1

    def test_measures_throughput_over_the_given_seconds(
        self, server: EmbeddedServer, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def counted() -> int:
            return client.statistics()["text_embedding"].items

        def embed_instead_of_sleeping(seconds: float) -> None:
            assert seconds == 40
            before = counted()
            client.embed_texts([f"吞吐量{number}" for number in range(20)])
            wait_until(lambda: counted() >= before + 20)  # a server counts a request shortly after its response

        client.embed_texts(["猫"])
        monkeypatch.setattr("tuwen_cli.status.time", SimpleNamespace(sleep=embed_instead_of_sleeping))
        models = json.loads(tuwen("status", "--url", server.grpc_url, "--json", "--over", "40").stdout)["models"]
        assert models["text_embedding"]["items_per_second"] >= 20 / 40
        assert models["vision_encoder"]["items_per_second"] == 0

    def test_says_that_a_server_is_not_ready(self) -> None:
        assert "not ready" in tuwen("status", "--url", "127.0.0.1:1", code=1).stdout
        assert json.loads(tuwen("status", "--url", "127.0.0.1:1", "--json", code=1).stdout)["ready"] is False


def test_similarity_prints_what_the_client_computes(server: EmbeddedServer, client: Client) -> None:
    arguments = ("similarity", "-u", server.grpc_url, "-i", CAT, "-i", COFFEE, "-t", "一只猫", "-t", "一杯咖啡")
    table = tuwen(*arguments).stdout
    assert "一杯咖啡" in table
    assert "cat.jpg" in table
    scores = json.loads(tuwen(*arguments, "--json").stdout)
    expected = client.similarity(images=[CAT, COFFEE], texts=["一只猫", "一杯咖啡"])
    np.testing.assert_allclose(scores["cosine"], expected.cosine, atol=1e-5)
    np.testing.assert_allclose(scores["probabilities"], expected.probabilities, atol=1e-4)


def test_classify_prints_what_the_client_computes(server: EmbeddedServer, client: Client) -> None:
    arguments = ("classify", CAT, COFFEE, "-l", "猫", "-l", "咖啡", "-u", server.grpc_url)
    assert "咖啡" in tuwen(*arguments).stdout
    for templates in ("zh", "en", ["{}图", "{}画"]):
        own = [templates] if isinstance(templates, str) else templates
        chosen = [part for template in own for part in ("--template", template)]
        result = json.loads(tuwen(*arguments, *chosen, "--json").stdout)
        expected = client.classify([CAT, COFFEE], ["猫", "咖啡"], templates=templates)  # type: ignore[arg-type]
        np.testing.assert_allclose(result["cosine"], expected.scores.cosine, atol=1e-5)
        assert result["best"] == list(expected.best)
    assert (
        "expected zh alone, got 2 templates"
        in tuwen(*arguments, "--template", "zh", "--template", "{}图", code=1).stderr
    )


def test_an_error_is_printed_in_one_line(server: EmbeddedServer, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    refused = tuwen("embed", CAT, str(bad), "--json", "-u", server.grpc_url, code=1).stderr
    assert "tuwen: 1 of 2 images refused: item 1: unsupported_format" in refused
    unreachable = tuwen("similarity", "-i", CAT, "-t", "猫", "-u", "127.0.0.1:1", "--timeout", "2", code=1).stderr
    assert unreachable.startswith("tuwen: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("embed",),
        ("embed", CAT, "-t", "猫", "--json"),
        ("embed", CAT),
        ("embed", CAT, "-o", "vectors.csv"),
        ("embed", "/proc/self/fd", "--json"),
        ("similarity", "-i", CAT),
        ("build", "x"),
        ("build", "x", "-o", "y", "--precision", "int3"),
    ],
)
def test_wrong_usage_prints_the_usage(arguments: tuple[str, ...]) -> None:
    assert "Usage: tuwen" in tuwen(*arguments, code=2).stderr
