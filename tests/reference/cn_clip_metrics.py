"""Recall of feature files by Chinese-CLIP's own scripts, on the CPU. Run with the environment `originals`.

``python cn_clip_metrics.py FOLDER``, which holds ``images.jsonl``, ``texts.jsonl`` (features) and
``test_texts.jsonl`` (annotations); prints the two results as JSON.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import torch


def script(name: str, *arguments: str) -> None:
    sys.argv = [name, *arguments]
    runpy.run_module(f"cn_clip.eval.{name}", run_name="__main__", alter_sys=True)


def main() -> None:
    folder = Path(sys.argv[1])
    torch.Tensor.cuda = lambda self, *_: self  # type: ignore[method-assign, assignment]  # the scripts ask for a GPU
    features = ("--image-feats", str(folder / "images.jsonl"), "--text-feats", str(folder / "texts.jsonl"))
    script("transform_ir_annotation_to_tr", "--input", str(folder / "test_texts.jsonl"))
    script("make_topk_predictions", *features, "--output", str(folder / "ir.jsonl"))
    script("make_topk_predictions_tr", *features, "--output", str(folder / "tr.jsonl"))
    script("evaluation", str(folder / "test_texts.jsonl"), str(folder / "ir.jsonl"), str(folder / "ir.json"))
    script("evaluation_tr", str(folder / "test_texts.tr.jsonl"), str(folder / "tr.jsonl"), str(folder / "tr.json"))
    results = {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("ir", "tr")}
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
