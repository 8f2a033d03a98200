"""Tests of the command `tuwen evaluate` on the real server and on feature files."""

from __future__ import annotations

import base64
import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.command import tuwen
from tuwen import Client
from tuwen_lab.datasets import RetrievalSplit
from tuwen_lab.evaluation import embed_split, retrieval_report
from tuwen_repository.samples import sample
from tuwen_server import EmbeddedServer, ServerOptions

PICTURES = ["cat.jpg", "coffee.jpg", "rocket.jpg", "astronaut.jpg", "horse.png"]
TEXTS = ["一只猫", "一杯咖啡", "火箭发射", "一位宇航员", "一匹马", "“马”"]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    lines = [f"{n}\t{base64.b64encode(sample(name).read_bytes()).decode()}\n" for n, name in enumerate(PICTURES)]
    (tmp_path / "test_imgs.tsv").write_text("".join(lines), encoding="ascii")
    records = [{"text_id": n, "text": text, "image_ids": [min(n, 4)]} for n, text in enumerate(TEXTS)]
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    (tmp_path / "test_texts.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


class TestRetrieval:
    def test_a_server_a_repository_and_feature_files_agree(
        self, dataset: Path, server: EmbeddedServer, repository: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def serve(served: Path, _: ServerOptions) -> AbstractContextManager[EmbeddedServer]:
            assert served == repository
            return nullcontext(server)

        monkeypatch.setattr("tuwen_server.EmbeddedServer", serve)  # use the shared server instead of a new one
        with Client(server.grpc_url) as clip:
            images, texts = embed_split(clip, RetrievalSplit(dataset))
        for name, features in (("image", images), ("text", texts)):
            lines = [
                json.dumps({f"{name}_id": number, "feature": vector.tolist()})
                for number, vector in zip(features.ids, features.vectors, strict=True)
            ]
            (dataset / f"{name}s.jsonl").write_text("\n".join(lines), encoding="utf-8")
        expected = retrieval_report(images, texts, RetrievalSplit(dataset).truths())
        files = ("--image-features", str(dataset / "images.jsonl"), "--text-features", str(dataset / "texts.jsonl"))
        for source in (("--url", server.grpc_url), ("--repository", str(repository)), files):
            shown = json.loads(tuwen("evaluate", "retrieval", str(dataset), "--json", *source).stdout)
            assert shown["text_to_image"]["r1"] == pytest.approx(expected.text_to_image.r1)
            assert shown["image_to_text"]["mean"] == pytest.approx(expected.image_to_text.mean)
            assert (shown["images"], shown["texts"]) == (5, 6)
        assert expected.text_to_image.queries == 6

    def test_prints_published_numbers_next_to_the_measured_ones(self, dataset: Path, server: EmbeddedServer) -> None:
        arguments = ("evaluate", "retrieval", str(dataset), "-u", server.grpc_url)
        shown = tuwen(*arguments, "--compare", "ViT-B-16:flickr30k-cn")
        assert "62.7" in shown.stdout
        assert "difference" in shown.stdout
        assert "warning: the published numbers are of the split 'test' of flickr30k-cn with" in shown.stderr
        assert "muge" in tuwen(*arguments, "--compare", "ViT-B-16:imagenet", code=2).stderr

    def test_names_the_splits_that_exist(self, dataset: Path) -> None:
        assert "splits here: test" in tuwen("evaluate", "retrieval", str(dataset), "--split", "valid", code=1).stderr


class TestZeroShot:
    @pytest.fixture
    def classes(self, tmp_path: Path) -> Path:
        for name in ("cat", "coffee", "horse"):
            (tmp_path / "classes" / name).mkdir(parents=True)
            with Image.open(sample(next(file for file in PICTURES if file.startswith(name)))) as picture:
                for side in (64, 96):
                    picture.convert("RGB").resize((side, side)).save(tmp_path / "classes" / name / f"{side}.png")
        (tmp_path / "label_cn.txt").write_text("猫\n咖啡\n马\n", encoding="utf-8")
        return tmp_path / "classes"

    def test_accuracy_equals_that_of_classify(self, classes: Path, server: EmbeddedServer, tmp_path: Path) -> None:
        labels, plot = str(tmp_path / "label_cn.txt"), tmp_path / "confusion.png"
        arguments = ("evaluate", "zero-shot", str(classes), "--labels", labels, "-u", server.grpc_url)
        shown = json.loads(tuwen(*arguments, "--confusion", str(plot), "--json").stdout)
        paths = sorted(classes.rglob("*.png"))
        with Client(server.grpc_url) as clip:
            best = clip.classify(paths, ["猫", "咖啡", "马"], templates="zh").best
        right = np.repeat(["猫", "咖啡", "马"], 2)
        assert shown["top1"] == pytest.approx(float((np.array(best) == right).mean() * 100))
        assert shown["top5"] == 100
        assert np.array(shown["confusion"]).sum(axis=1).tolist() == [2, 2, 2]
        with Image.open(plot) as picture:
            assert picture.format == "PNG"
            assert np.asarray(picture.convert("L")).std() > 10
        assert "3" in tuwen(*arguments).stdout
