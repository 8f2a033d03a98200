"""The program of the LitServe server: ``python _peer_server.py CHECKPOINT PORT``.

It runs in the environment in which LitServe is installed. It serves the model of this project's service, with batches
of the service's size. The server is written as LitServe's documentation shows: JSON with base64 images, one worker, and
batches that are formed within milliseconds.
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
    """The base class of the two interfaces: it loads the model, and converts vectors to lists."""

    def setup(self, device: str) -> None:
        """Load the model. LitServe calls this method in the worker process."""
        self.model = ChineseCLIPModel.from_pretrained(sys.argv[1]).to(device).eval()
        self.processor = ChineseCLIPProcessor.from_pretrained(sys.argv[1])

    def encode_response(self, output: Any) -> dict[str, list[float]]:
        """Return one vector as a list."""
        return {"embedding": output.tolist()}

    def unbatch(self, output: Any) -> list[Any]:
        """Return the rows of a batch as separate vectors."""
        return list(output)

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Return the items of a batch unchanged, because `predict` takes a list."""
        return inputs


class Images(Embedding):
    """The interface for images: ``POST /image`` with ``{"image": base64}``."""

    def decode_request(self, request: dict[str, str]) -> Image.Image:
        """Return the picture of a request."""
        return Image.open(io.BytesIO(base64.b64decode(request["image"]))).convert("RGB")

    def predict(self, batch: list[Image.Image]) -> Any:
        """Return the vectors of pictures."""
        with torch.inference_mode():
            inputs = self.processor(images=batch, return_tensors="pt").to(self.model.device)
            return self.model.get_image_features(**inputs).pooler_output.cpu()


class Texts(Embedding):
    """The interface for texts: ``POST /text`` with ``{"text": "..."}``."""

    def decode_request(self, request: dict[str, str]) -> str:
        """Return the text of a request."""
        return request["text"]

    def predict(self, batch: list[str]) -> Any:
        """Return the vectors of texts. The texts of a batch are padded to the longest text."""
        with torch.inference_mode():
            inputs = self.processor(text=batch, padding=True, return_tensors="pt").to(self.model.device)
            return self.model.get_text_features(**inputs).pooler_output.cpu()


def _end_with_input() -> None:
    """End the process group when the standard input is closed, because the benchmark has ended then."""
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
