"""Loops that embed without a server: the encoder alone, transformers, and sentence-transformers.

`_loop` runs this file as ``python _loops.py LOOP SOURCE WORK`` in its own process, which may have another environment,
so this file does not import tuwen. When it is ready, it prints its tasks as a line of JSON. For every line ``{"task",
"batch", "seconds"}`` that it reads, it prints the measurement as a line of JSON.
"""

from __future__ import annotations

import base64
import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

Loop = Callable[..., object]
Tasks = dict[str, tuple[Loop, Sequence[Any]]]
"""The tasks of a loop, by name. A task is a function that embeds a batch, and the items to embed."""
_CONTEXT = 52  # tokens that the model takes; a query has fewer
_LENGTHS = (8, 16, 24, 32, 52)
_BATCH = 32
_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def timed(embed: Loop, items: Sequence[Any], batch: int, seconds: float) -> dict[str, float]:
    """Return the items per second, the median time of a batch, and the extra time of the first batch (the warm-up)."""
    batches = [items[start : start + batch] for start in range(0, len(items) - batch + 1, batch)]
    start = time.perf_counter()
    embed(batches[0])
    first = time.perf_counter() - start
    times, start = [], time.perf_counter()
    while sum(times) < seconds:
        embed(batches[len(times) % len(batches)])
        times.append(time.perf_counter() - start - sum(times))
    median = statistics.median(times)
    return {"rate": len(times) * batch / sum(times), "median": median, "first": first - median}


def encoder(repository: Path, work: dict[str, list[Any]]) -> Tasks:
    """Return tasks that run the exported encoders on ready tensors. Their speed is the upper bound of a service.

    Each query becomes one token for each of its characters, with a start token and an end token.
    """
    vision, text = (_loaded(repository / name / "1" / "model.pt") for name in ("vision_encoder", "text_encoder"))
    side = json.loads((repository / "manifest.json").read_text(encoding="utf-8"))["image_size"]
    pixels = torch.randint(0, 256, (_BATCH, 3, side, side), dtype=torch.uint8)
    queries = torch.tensor([[200] * (len(query) + 2) + [0] * (_CONTEXT - len(query) - 2) for query in work["texts"]])

    def embed_ids(ids: Tensor) -> object:
        return text(ids, ids.sign())

    by_length: Tasks = {
        f"texts of {length} tokens": (embed_ids, torch.full((_BATCH, length), 200)) for length in _LENGTHS
    }
    return {"images": (vision, pixels), "texts": (embed_ids, queries), **by_length}


def _loaded(path: Path) -> Loop:
    """Return a function that runs an encoder with inputs and outputs in the host's memory."""
    module = torch.jit.load(str(path), map_location=_DEVICE)
    return lambda *tensors: module(*(tensor.to(_DEVICE) for tensor in tensors)).cpu()


def transformers_loop(checkpoint: Path, work: dict[str, list[Any]]) -> Tasks:
    """Return tasks that embed with the model classes of transformers, as the model card shows."""
    from transformers import ChineseCLIPModel, ChineseCLIPProcessor

    model = ChineseCLIPModel.from_pretrained(checkpoint).to(_DEVICE).eval()
    processor = ChineseCLIPProcessor.from_pretrained(checkpoint)

    def images(batch: Sequence[bytes]) -> object:
        pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in batch]
        inputs = processor(images=pictures, return_tensors="pt").to(_DEVICE)
        return model.get_image_features(**inputs).pooler_output.cpu()

    def texts(batch: Sequence[str], **padding: Any) -> object:
        inputs = processor(text=list(batch), return_tensors="pt", **padding).to(_DEVICE)
        return model.get_text_features(**inputs).pooler_output.cpu()

    return {
        "images": (images, work["images"]),
        "texts": (partial(texts, padding=True), work["texts"]),
        "texts padded to 52": (partial(texts, padding="max_length", max_length=_CONTEXT), work["texts"]),
    }


def sentence_transformers_loop(checkpoint: Path, work: dict[str, list[Any]]) -> Tasks:
    """Return tasks that embed with ``SentenceTransformer.encode``."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(checkpoint), device=_DEVICE)

    def images(batch: Sequence[bytes]) -> object:
        pictures = [Image.open(io.BytesIO(data)) for data in batch]
        return model.encode(pictures, batch_size=len(batch), show_progress_bar=False)

    def texts(batch: Sequence[str]) -> object:
        return model.encode(list(batch), batch_size=len(batch), show_progress_bar=False)

    return {"images": (images, work["images"]), "texts": (texts, work["texts"])}


def main() -> None:
    """Load the model of one loop, then run the requested measurements until the input ends."""
    loop, source, work_file = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    work = json.loads(work_file.read_text(encoding="utf-8"))
    work["images"] = [base64.b64decode(data) for data in work["images"]]
    loops: dict[str, Callable[[Path, dict[str, list[Any]]], Tasks]] = {
        "encoder": encoder,
        "transformers": transformers_loop,
        "sentence-transformers": sentence_transformers_loop,
    }
    with (
        torch.inference_mode(),
        torch.jit.optimized_execution(False),
    ):  # the server runs its encoders with the same setting
        tasks = loops[loop](source, work)
        print(json.dumps(list(tasks)), flush=True)
        for line in sys.stdin:
            wanted = json.loads(line)
            print(json.dumps(timed(*tasks[wanted["task"]], wanted["batch"], wanted["seconds"])), flush=True)


if __name__ == "__main__":
    main()
