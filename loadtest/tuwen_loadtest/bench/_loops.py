"""What there is without a service: a loop over the work, alone on its cores.

Run by `_contestants` as ``python _loops.py LOOP SOURCE WORK SECONDS``, in a process of its own and maybe in another
environment, so that it imports nothing of tuwen but what the encoder's loop measures. Prints one JSON object.
"""

from __future__ import annotations

import base64
import io
import json
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
_BATCH = 8
_CONTEXT = 52  # tokens, of which a query takes a few
_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def timed(embed: Loop, items: Sequence[Any], batch: int, seconds: float) -> tuple[float, float]:
    """Items a second, of whole batches; and how many seconds the first batch, which warms up, took longer."""
    batches = [items[start : start + batch] for start in range(0, len(items) - batch + 1, batch)]
    start = time.perf_counter()
    embed(batches[0])
    first = time.perf_counter() - start
    done, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        embed(batches[done % len(batches)])
        done += 1
    return done * batch / elapsed, first - elapsed / done


def rate(embed: Loop, items: Sequence[Any], batch: int, seconds: float) -> float:
    """Items a second."""
    return timed(embed, items, batch, seconds)[0]


def encoder(repository: Path, work: dict[str, list[Any]], seconds: float) -> dict[str, Any]:
    """The exported encoders on ready tensors: what no service of this precision can surpass.

    Texts have as many tokens as the work's queries, Chinese characters all of them, with a start and an end.
    """
    found: dict[str, Any] = {"images": {}, "texts": {}, "lengths": {}, "first": {"images": 0.0, "texts": 0.0}}
    with torch.inference_mode(), torch.jit.optimized_execution(False):  # as the server runs them
        vision, text = (_loaded(repository / name / "1" / "model.pt") for name in ("vision_encoder", "text_encoder"))
        side = json.loads((repository / "manifest.json").read_text(encoding="utf-8"))["image_size"]
        pixels = torch.randint(0, 256, (32, 3, side, side), dtype=torch.uint8)
        queries = torch.tensor(
            [[200] * (len(query) + 2) + [0] * (_CONTEXT - len(query) - 2) for query in work["texts"]]
        )

        def embed_ids(ids: Tensor) -> object:
            return text(ids, ids.sign())

        for kind, embed, items in (("images", vision, pixels), ("texts", embed_ids, queries)):
            for batch in (1, 2, 4, 8, 16, 32):
                found[kind][batch], first = timed(embed, items, batch, seconds)
                if batch > 1:  # the server's warm-up has seen batches of one
                    found["first"][kind] = max(found["first"][kind], first)
        for length in (8, 16, 24, 32, 52):
            found["lengths"][length] = rate(embed_ids, torch.full((_BATCH, length), 200), _BATCH, seconds)
    return found


def _loaded(path: Path) -> Loop:
    """An encoder, from the host's memory to the host's memory."""
    module = torch.jit.load(str(path), map_location=_DEVICE)
    return lambda *tensors: module(*(tensor.to(_DEVICE) for tensor in tensors)).cpu()


def transformers_loop(checkpoint: Path, work: dict[str, list[Any]], seconds: float) -> dict[str, float]:
    """The model's own classes, as its card shows them, with a batch of eight."""
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

    to_longest, to_52 = partial(texts, padding=True), partial(texts, padding="max_length", max_length=52)
    with torch.inference_mode():
        return {
            "images": rate(images, work["images"], _BATCH, seconds),
            "texts": rate(to_longest, work["texts"], _BATCH, seconds),
            "texts padded to 52": rate(to_52, work["texts"], _BATCH, seconds),
        }


def sentence_transformers_loop(checkpoint: Path, work: dict[str, list[Any]], seconds: float) -> dict[str, float]:
    """``SentenceTransformer.encode``, with a batch of eight."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(checkpoint), device=_DEVICE)

    def images(batch: Sequence[bytes]) -> object:
        pictures = [Image.open(io.BytesIO(data)) for data in batch]
        return model.encode(pictures, batch_size=_BATCH, show_progress_bar=False)

    def texts(batch: Sequence[str]) -> object:
        return model.encode(list(batch), batch_size=_BATCH, show_progress_bar=False)

    return {
        "images": rate(images, work["images"], _BATCH, seconds),
        "texts": rate(texts, work["texts"], _BATCH, seconds),
    }


def main() -> None:
    """Run one loop."""
    loop, source, work_file, seconds = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
    work = json.loads(work_file.read_text(encoding="utf-8"))
    work["images"] = [base64.b64decode(data) for data in work["images"]]
    loops: dict[str, Callable[[Path, dict[str, list[Any]], float], dict[str, Any]]] = {
        "encoder": encoder,
        "transformers": transformers_loop,
        "sentence-transformers": sentence_transformers_loop,
    }
    print(json.dumps(loops[loop](source, work, seconds)))


if __name__ == "__main__":
    main()
