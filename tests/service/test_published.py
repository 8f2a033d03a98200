"""Tests of `make verify-published` on a fake Hugging Face hub, from the download to the verdict."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import BertTokenizer, ChineseCLIPModel, ChineseCLIPProcessor
from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil

from tests.support.stand_in_hub import stand_in_hub
from tuwen_lab.demo import CHECKPOINT
from tuwen_repository.samples import sample

BASE = "OFA-Sys/chinese-clip-vit-base-patch16"
TEXTS = ["一只猫", "一只狗", "火箭", "一杯咖啡"]
PICTURE = sample("cat.jpg").read_bytes()
OTHER_EXAMPLE = """
import json, sys
from tuwen_lab.published import PublishedCheckpoint, PublishedExample, main
picture, hub_id, probabilities = json.loads(sys.argv[1])
example = PublishedExample((picture,), probabilities)
sys.exit(main([], [PublishedCheckpoint(hub_id, "ViT-B-16", example), PublishedCheckpoint("no/data", "RN50")]))
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs Python with the given hub address and an empty cache of downloads."""

    def run(hub: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        folders = {"HF_HOME": str(tmp_path / "hub"), "TMPDIR": str(tmp_path)}
        environment = {**os.environ, **folders, "HF_ENDPOINT": hub, "NO_PROXY": "127.0.0.1"}
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)

    return run


def model_card_probabilities() -> dict[str, float]:
    """Return each text's probability, computed with transformers as in the code of the model card."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processor = ChineseCLIPProcessor(
            ChineseCLIPImageProcessorPil.from_pretrained(CHECKPOINT), BertTokenizer.from_pretrained(CHECKPOINT)
        )
        model = ChineseCLIPModel.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()
        inputs = processor(text=TEXTS, images=Image.open(io.BytesIO(PICTURE)), padding=True, return_tensors="pt")
        with torch.inference_mode():
            probabilities = model(**inputs).logits_per_image.softmax(dim=1)[0]
    return dict(zip(TEXTS, probabilities.tolist(), strict=True))


def write_split(folder: Path) -> None:
    folder.mkdir(parents=True)
    encoded = base64.b64encode(PICTURE).decode()
    (folder / "test_imgs.tsv").write_text(f"1\t{encoded}\n", encoding="ascii")
    records = [{"text_id": number, "text": text, "image_ids": [1]} for number, text in enumerate(TEXTS)]
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    (folder / "test_texts.jsonl").write_text(lines, encoding="utf-8")


def test_a_checkpoint_with_the_published_numbers_passes(run: Run) -> None:
    probabilities = model_card_probabilities()
    with stand_in_hub({BASE: CHECKPOINT}, {"/picture.jpg": PICTURE}) as hub:
        example = json.dumps([f"{hub.url}/picture.jpg", BASE, probabilities])
        ended = run(hub.url, "-c", OTHER_EXAMPLE, example)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count(": holds\n") == 4
    assert ended.stdout.endswith("4 of 4 published numbers hold\n")
    assert "no/data: skipped, because no data set with published recalls is available" in ended.stdout
    fetched = {path.rpartition("/")[2] for method, path in hub.asked if method == "GET" and "/resolve/" in path}
    assert {"config.json", "model.safetensors", "vocab.txt"} <= fetched
    assert "training.png" not in fetched


def test_another_model_under_a_published_name_fails(run: Run, tmp_path: Path, minimal_checkpoint: Path) -> None:
    """If the hub holds random weights under the published name, all published numbers are reported as different."""
    write_split(tmp_path / "data" / "Flickr30k-CN")
    (tmp_path / "picture.jpg").write_bytes(PICTURE)
    options = ["--data", str(tmp_path / "data"), "--picture", str(tmp_path / "picture.jpg")]
    with stand_in_hub({BASE: minimal_checkpoint}) as hub:
        ended = run(hub.url, "-m", "tuwen_lab.published", *options)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert f"{BASE}: example picture, 皮卡丘: published 0.94355, served " in ended.stdout
    assert f"{BASE}: flickr30k-cn, text to image, R@1: published 62.7, served 100: DIFFERS" in ended.stdout
    assert f"{BASE}: flickr30k-cn, image to text, R@10: published 97.1, served 100: DIFFERS" in ended.stdout
    assert ended.stdout.splitlines()[-1].startswith(f"FAILED: OFA-Sys/chinese-clip-rn50 is not on {hub.url}: ")
    assert "Traceback" not in ended.stderr


def test_an_unreachable_hub_ends_with_exit_code_3(run: Run) -> None:
    ended = run("http://127.0.0.1:9", "-m", "tuwen_lab.published")
    assert ended.returncode == 3
    assert ended.stdout.startswith(f"NOT VERIFIED: cannot reach http://127.0.0.1:9 for {BASE} (")
    assert "set HF_ENDPOINT to a mirror of the hub" in ended.stdout
    assert ended.stderr == ""
