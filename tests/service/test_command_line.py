"""The commands that talk to a server, as a user types them."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.checkpoints import TextSizes, write_taiyi
from tests.support.command import TUWEN, started, tuwen, wait_until
from tuwen import Client, EmbeddingTable
from tuwen_build.hardware import choose_precision
from tuwen_build.samples import sample
from tuwen_build.server import EmbeddedServer

CAT, COFFEE = str(sample("cat.jpg")), str(sample("coffee.jpg"))


@pytest.mark.parametrize(
    "command", [(), ("build",), ("serve",), ("status",), ("embed",), ("similarity",), ("classify",)]
)
def test_help(command: tuple[str, ...]) -> None:
    assert "Usage: tuwen" in tuwen(*command, "--help").stdout


class TestBuild:
    def test_explain_builds_nothing(self, checkpoint: Path, tmp_path: Path) -> None:
        lines = tuwen("build", str(checkpoint), "--explain", "-o", str(tmp_path / "out")).stdout.splitlines()
        assert lines[0] == "family       chinese-clip: Hugging Face layout"
        assert lines[1].startswith(
            "image tower  ViT, patch 16, 96 wide, 3 layers, 4 heads, quick_gelu; 0.4 M parameters"
        )
        assert not (tmp_path / "out").exists()
        explanation = json.loads(tuwen("build", str(checkpoint), "--explain", "--json").stdout)
        assert explanation["embedding_dimension"] == 64
        assert explanation["tokenizer"] == "WordPiece, as in cn_clip"

    def test_every_choice_reaches_the_build(self, checkpoint: Path, tmp_path: Path) -> None:
        choices = {"precision": "int8", "image_rules": "display", "jpeg_decoding": "scaled", "text_rules": "evaluation"}
        arguments = [part for name, value in choices.items() for part in (f"--{name.replace('_', '-')}", value)]
        output = str(tmp_path / "out")
        manifest = json.loads(tuwen("build", str(checkpoint), "--output", output, *arguments, "--json").stdout)
        assert {name: manifest[name] for name in choices} == choices
        tokenizer = json.loads((tmp_path / "out/text_tokenization/1/tokenizer.json").read_text(encoding="utf-8"))
        assert tokenizer["rules"] == {"straighten_quotes": True}

    def test_the_machine_chooses_a_precision(self, checkpoint: Path, tmp_path: Path) -> None:
        finished = tuwen("build", str(checkpoint), "--output", str(tmp_path / "out"), "--precision", "auto", "--json")
        said = re.search(r"precision (\w+): \S.*", finished.stderr)
        assert said
        assert json.loads(finished.stdout)["precision"] == said[1] == choose_precision().precision

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (("--explain", "--vision", "openai/clip-vit-base-patch32"), 1, "needs no --vision: its files tell"),
            (("--explain", "--heads", "12"), 2, "--heads takes two numbers"),
            ((), 2, "with --output FOLDER"),
            (("-o", "out", "--text-rules", "unmasked"), 1, "text rules of chinese-clip are reference or evaluation"),
        ],
    )
    def test_what_does_not_fit_is_said(
        self, checkpoint: Path, arguments: tuple[str, ...], code: int, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        assert message in tuwen("build", str(checkpoint), *arguments, code=code).stderr

    def test_a_taiyi_text_tower_asks_for_its_image_tower(self, tmp_path: Path) -> None:
        folder = write_taiyi(tmp_path / "taiyi", TextSizes(96, 1, 4))
        finished = tuwen("build", str(folder), "-o", str(tmp_path / "out"), code=1)
        assert "Which CLIP has the image tower that it was trained with?" in finished.stderr
        assert not (tmp_path / "out").exists()


def test_status(server: EmbeddedServer, client: Client) -> None:
    assert "context length" in tuwen("status", "--url", server.grpc_url).stdout
    status = json.loads(tuwen("status", "--url", server.grpc_url, "--json").stdout)
    assert status["ready"] is True
    assert status["model_card"]["fingerprint"] == client.model_card().fingerprint
    client.embed_texts(["猫"])
    counted = json.loads(tuwen("status", "--url", server.grpc_url, "--json", "--over", "0.1").stdout)["models"]
    assert set(counted) >= {"image_embedding", "text_embedding", "vision_encoder", "text_encoder"}
    assert counted["text_encoder"]["requests"] > 0
    assert counted["text_encoder"]["mean_batch_size"] >= 1


def test_status_shows_the_throughput_of_now(server: EmbeddedServer, client: Client) -> None:
    command = [TUWEN, "status", "--url", server.grpc_url, "--json", "--over", "2"]
    with started(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            client.embed_texts(["一只猫"])
        models = json.loads(process.stdout.read())["models"]
    assert models["text_embedding"]["items_per_second"] > 1
    assert models["vision_encoder"]["items_per_second"] == 0


def test_status_of_a_server_that_is_not_there() -> None:
    assert "not ready" in tuwen("status", "--url", "127.0.0.1:1", code=1).stdout
    assert json.loads(tuwen("status", "--url", "127.0.0.1:1", "--json", code=1).stdout)["ready"] is False


def test_similarity(server: EmbeddedServer, client: Client) -> None:
    arguments = ("similarity", "-u", server.grpc_url, "-i", CAT, "-i", COFFEE, "-t", "一只猫", "-t", "一杯咖啡")
    table = tuwen(*arguments).stdout
    assert "一杯咖啡" in table
    assert "cat.jpg" in table
    scores = json.loads(tuwen(*arguments, "--json").stdout)
    expected = client.similarity(images=[CAT, COFFEE], texts=["一只猫", "一杯咖啡"])
    np.testing.assert_allclose(scores["cosine"], expected.cosine, atol=1e-5)
    np.testing.assert_allclose(scores["probabilities"], expected.probabilities, atol=1e-4)


def test_classify(server: EmbeddedServer, client: Client) -> None:
    arguments = ("classify", CAT, COFFEE, "-l", "猫", "-l", "咖啡", "-u", server.grpc_url)
    assert "咖啡" in tuwen(*arguments).stdout
    for templates in ("zh", "en", ["{}图", "{}画"]):
        own = [templates] if isinstance(templates, str) else templates
        chosen = [part for template in own for part in ("--template", template)]
        result = json.loads(tuwen(*arguments, *chosen, "--json").stdout)
        expected = client.classify([CAT, COFFEE], ["猫", "咖啡"], templates=templates)  # type: ignore[arg-type]
        np.testing.assert_allclose(result["cosine"], expected.scores.cosine, atol=1e-5)
        assert result["best"] == list(expected.best)
    assert "stands alone" in tuwen(*arguments, "--template", "zh", "--template", "{}图", code=1).stderr


def test_embed_a_folder(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    folder = str(Path(CAT).parent)
    output = tmp_path / "vectors.npz"
    assert "5 vectors written" in tuwen("embed", folder, "-o", str(output), "-u", server.grpc_url).stdout
    saved = np.load(output)
    assert [Path(key).name for key in saved["keys"]] == [
        "astronaut.jpg",
        "cat.jpg",
        "coffee.jpg",
        "horse.png",
        "rocket.jpg",
    ]
    np.testing.assert_allclose(saved["embeddings"][1], client.embed_images([CAT])[0], atol=1e-5)
    assert saved["fingerprint"] == client.model_card().fingerprint


@pytest.mark.parametrize("preprocess", ["server", "client"])
def test_embed_goes_on_where_it_was_left(server: EmbeddedServer, tmp_path: Path, preprocess: str) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(Path(CAT).parent, photos, ignore=lambda _, names: [name for name in names if "cat" not in name])
    output = tmp_path / "vectors.parquet"
    arguments = ("embed", str(photos), "-o", str(output), "-u", server.grpc_url, "--preprocess", preprocess)
    assert "1 vectors written" in tuwen(*arguments).stdout
    shutil.copy(COFFEE, photos)
    (photos / "broken.png").write_bytes(b"no image")
    finished = tuwen(*arguments, "--json", code=1)
    summary = json.loads(finished.stdout)
    assert (summary["written"], summary["already_there"], summary["refused"]) == (1, 1, 1)
    assert "broken.png: not an image" in finished.stderr
    listing = output.with_name("vectors.parquet.refused.jsonl")
    (refused,) = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]
    assert (Path(refused["key"]).name, refused["reason"]) == ("broken.png", "unsupported_format")
    shutil.copy(COFFEE, photos / "broken.png")
    assert "1 vectors written" in tuwen(*arguments).stdout
    assert not listing.exists()
    with Client(server.grpc_url) as clip:
        table = EmbeddingTable.load(output, expected_fingerprint=clip.model_card().fingerprint)
        np.testing.assert_allclose(table.embeddings, clip.embed_images(list(table.keys)), atol=1e-5)
    assert [Path(key).name for key in table.keys] == ["cat.jpg", "coffee.jpg", "broken.png"]


def test_embed_that_is_interrupted_keeps_what_it_has(server: EmbeddedServer, tmp_path: Path) -> None:
    texts, output = tmp_path / "texts.txt", tmp_path / "vectors.npz"
    texts.write_text("\n".join(f"第{number}句" for number in range(200_000)), encoding="utf-8")
    command = [TUWEN, "embed", "--texts-from", str(texts), "-o", str(output), "-u", server.grpc_url]
    parts = tmp_path / "vectors.npz.parts"
    with started(command, stderr=subprocess.PIPE) as process:
        wait_until((parts / "000000.npz").exists, running=process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    texts.write_text("\n".join(f"第{number}句" for number in range(6_000)), encoding="utf-8")
    finished = tuwen("embed", "--texts-from", str(texts), "-o", str(output), "-u", server.grpc_url, "--json")
    assert json.loads(finished.stdout)["already_there"] >= 4096
    assert not parts.exists()
    table = EmbeddingTable.load(output)
    assert list(table.keys[:6_000]) == [f"第{number}句" for number in range(6_000)]


def test_embed_refuses_another_space_before_it_works(server: EmbeddedServer, tmp_path: Path) -> None:
    output = tmp_path / "vectors.npz"
    EmbeddingTable(["a"], np.ones((1, 64), dtype=np.float32), "b" * 32).save(output)
    refused = tuwen("embed", CAT, "-o", str(output), "-u", server.grpc_url, code=1).stderr
    assert "choose another output" in refused
    assert "b" * 32 in refused


def test_embed_reads_texts_from_a_pipe(server: EmbeddedServer, tmp_path: Path) -> None:
    command = [TUWEN, "embed", "--texts-from", "-", "-o", str(tmp_path / "v.npz"), "-u", server.grpc_url]
    finished = subprocess.run(
        command, input=("猫\n狗\n" + "猫" * 60).encode(), capture_output=True, timeout=60, check=True
    )
    assert "1 texts were cut to 52 tokens" in finished.stderr.decode()
    assert len(EmbeddingTable.load(tmp_path / "v.npz")) == 3


def test_embed_texts_as_json(server: EmbeddedServer, client: Client) -> None:
    printed = json.loads(tuwen("embed", "-t", "一只猫", "-t", "cat.jpg", "--json", "-u", server.grpc_url).stdout)
    assert [item["key"] for item in printed["items"]] == ["一只猫", "cat.jpg"]
    vectors = [item["embedding"] for item in printed["items"]]
    np.testing.assert_allclose(vectors, client.embed_texts(["一只猫", "cat.jpg"]), atol=1e-5)


def test_errors_are_one_line(server: EmbeddedServer, tmp_path: Path) -> None:
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
def test_wrong_usage_says_what_is_right(arguments: tuple[str, ...]) -> None:
    assert "Usage: tuwen" in tuwen(*arguments, code=2).stderr


def test_build(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "repository"
    built = tuwen("build", str(checkpoint), "--output", str(output), "--max-batch-size", "4")
    assert "comparing texts with the reference" in built.stderr
    assert f"Serve it with: tuwen serve {output}" in built.stdout.replace("\n", "")
    assert "--force" in tuwen("build", str(checkpoint), "--output", str(output), code=1).stderr
    again = tuwen("build", str(checkpoint), "-o", str(output), "--force", "--json", "--precision", "bf16")
    assert json.loads(again.stdout)["precision"] == "bf16"


def test_build_without_its_extra_says_which(tmp_path: Path) -> None:
    """An environment that has the base install alone."""
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv[1:] = ['build', 'x', '-o', 'y']\n"
        "import tuwen._cli; tuwen._cli.main()"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert finished.returncode == 1
    assert "pip install 'tuwen[build]'" in finished.stderr
