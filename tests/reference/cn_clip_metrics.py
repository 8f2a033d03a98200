"""Recall of feature files, computed by Chinese-CLIP's own scripts. They expect a GPU and are patched to use the CPU."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
import tempfile
from pathlib import Path
from unittest import mock

import torch

__all__ = ["recall"]


def recall(features: str, output: str) -> None:
    """Write ``results.json`` with the recalls of text-to-image retrieval (`ir`) and image-to-text retrieval (`tr`).

    Args:
        features: a folder with ``images.jsonl``, ``texts.jsonl`` (features) and ``test_texts.jsonl`` (annotations).
        output: an existing folder, in which ``results.json`` is written.
    """
    with tempfile.TemporaryDirectory() as scratch, mock.patch.object(torch.Tensor, "cuda", lambda self, *_: self):
        folder = Path(shutil.copytree(features, Path(scratch) / "features"))
        files = ("--image-feats", str(folder / "images.jsonl"), "--text-feats", str(folder / "texts.jsonl"))
        _script("transform_ir_annotation_to_tr", "--input", str(folder / "test_texts.jsonl"))
        _script("make_topk_predictions", *files, "--output", str(folder / "ir.jsonl"))
        _script("make_topk_predictions_tr", *files, "--output", str(folder / "tr.jsonl"))
        _script("evaluation", str(folder / "test_texts.jsonl"), str(folder / "ir.jsonl"), str(folder / "ir.json"))
        _script("evaluation_tr", str(folder / "test_texts.tr.jsonl"), str(folder / "tr.jsonl"), str(folder / "tr.json"))
        results = {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("ir", "tr")}
    Path(output, "results.json").write_text(json.dumps(results), encoding="utf-8")


def _script(name: str, *arguments: str) -> None:
    with mock.patch.object(sys, "argv", [name, *arguments]):
        runpy.run_module(f"cn_clip.eval.{name}", run_name="__main__", alter_sys=True)
