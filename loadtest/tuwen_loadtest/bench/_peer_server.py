"""LitServe with the same model and batching: ``python _peer_server.py CHECKPOINT PORT``, in the peers' environment.

The server follows LitServe's documentation: JSON with base64 images, one worker, batches formed within milliseconds.
"""

from __future__ import annotations

import base64
import io
import os
import signal
import sys
import threading
from typing import Any

import litserve
import torch
from PIL import Image
from transformers import ChineseCLIPModel, ChineseCLIPProcessor

_LARGEST_BATCH, _PATIENCE = 32, 0.005  # seconds


class Embedding(litserve.LitAPI):
    """The base class of both kinds of items: the model, and the conversion of vectors to lists."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        self.model = ChineseCLIPModel.from_pretrained(sys.argv[1]).to(device).eval()
        self.processor = ChineseCLIPProcessor.from_pretrained(sys.argv[1])

    def encode_response(self, output: Any) -> dict[str, list[float]]:
        """Return one vector as a list."""
        return {"embedding": output.tolist()}

    def unbatch(self, output: Any) -> list[Any]:
        """Return the rows of a batch."""
        return list(output)

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Return the items unchanged."""
        return inputs


class Images(Embedding):
    """``POST /image`` with ``{"image": base64}``."""

    def decode_request(self, request: dict[str, str]) -> Image.Image:
        """Return one picture."""
        return Image.open(io.BytesIO(base64.b64decode(request["image"]))).convert("RGB")

    def predict(self, batch: list[Image.Image]) -> Any:
        """Return the vectors of pictures."""
        with torch.inference_mode():
            inputs = self.processor(images=batch, return_tensors="pt").to(self.model.device)
            return self.model.get_image_features(**inputs).pooler_output.cpu()


class Texts(Embedding):
    """``POST /text`` with ``{"text": ...}``."""

    def decode_request(self, request: dict[str, str]) -> str:
        """Return one text."""
        return request["text"]

    def predict(self, batch: list[str]) -> Any:
        """Return the vectors of texts, padded to the longest."""
        with torch.inference_mode():
            inputs = self.processor(text=batch, padding=True, return_tensors="pt").to(self.model.device)
            return self.model.get_text_features(**inputs).pooler_output.cpu()


def _end_with_input() -> None:
    """End the process group when the standard input is closed, which happens when the benchmark dies."""
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    apis = [
        kind(max_batch_size=_LARGEST_BATCH, batch_timeout=_PATIENCE, api_path=path)
        for kind, path in ((Images, "/image"), (Texts, "/text"))
    ]
    server = litserve.LitServer(apis, accelerator="auto", workers_per_device=1, timeout=120)
    server.run(port=int(sys.argv[2]), host="127.0.0.1", generate_client_file=False, num_api_servers=1)
