"""Measurements of the embedded server on this machine's GPU."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import local

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput

from tuwen import Client
from tuwen_build.verification.template_modules import staged_module
from tuwen_loadtest._usage import usage_of
from tuwen_loadtest.gpu_check._results import Served
from tuwen_server import EmbeddedServer, ServerOptions
from tuwen_server.signals import stop_on_signals
from tuwen_server.traffic import CALLERS, Work, saturate
from tuwen_server.tuning import ENCODERS, Settings, apply

__all__ = ["decode_images", "measure_served"]

_TIMEOUT = 120.0
_DELAY = 100  # microseconds; builds set the same queue delay


def decode_images(repository: Path, images: Sequence[bytes]) -> tuple[list[NDArray[np.uint8]], float]:
    """Return the pixels of all images, and the mean time of decoding an image on one core, in seconds."""
    folder = repository / "image_preprocessing" / "1"
    with staged_module(folder, "pixels") as module:
        preprocessor = module.load_preprocessor(folder, module.ImageLimits())
    preprocessor.pixel_values(images[0])
    start = time.perf_counter()
    pixels = [preprocessor.pixel_values(data) for data in images]
    return pixels, (time.perf_counter() - start) / len(images)


def measure_served(repository: Path, work: Work, *, instances: int, cores: int, seconds: float) -> Served:
    """Serve a repository with a number of instances of each encoder, and return the measurements.

    The function changes the configurations in the repository.

    Args:
        repository: a folder that `tuwen build` made.
        work: the pictures and texts to send.
        instances: the number of instances of each encoder.
        cores: the number of cores that decode images.
        seconds: the duration of each of the four measurements.
    """
    for kind in ENCODERS:
        apply(repository, kind, Settings(instances, 0, _DELAY))
    pixels, decode_seconds = decode_images(repository, work.images)
    before = _device_mib()
    with (
        stop_on_signals(),
        EmbeddedServer(repository, ServerOptions.on_free_ports()) as server,
        Client(server.grpc_url, timeout=_TIMEOUT, remembered_texts=0) as clip,
    ):

        def rate(ask: Callable[[], object], callers: int) -> float:
            return saturate(ask, concurrency=callers, seconds=seconds, warmup=seconds / 2).rate

        alone = saturate(work.ask("images", clip), concurrency=1, seconds=seconds, warmup=seconds / 4)
        jpeg_rate = rate(work.ask("images", clip), CALLERS["images"])
        pixel_rate = rate(_ask_with_pixels(server.grpc_url, pixels), CALLERS["images"])
        text_rate = rate(work.ask("texts", clip), CALLERS["texts"])
        taken = _device_mib()
        return Served(
            instances=instances,
            jpeg_rate=jpeg_rate,
            pixel_rate=pixel_rate,
            text_rate=text_rate,
            alone_seconds=alone.quantile(0.5),
            decode_share=jpeg_rate * decode_seconds / cores,
            device_mib=None if before is None or taken is None else taken - before,
            host_mib=usage_of(server.pid).memory_mib,
        )


def _ask_with_pixels(url: str, pixels: Sequence[NDArray[np.uint8]]) -> Callable[[], object]:
    """Return a function that sends the next image as pixels. Every thread has its own connection."""
    images, connections = itertools.cycle(pixels), local()

    def ask() -> object:
        if not hasattr(connections, "client"):
            connections.client = InferenceServerClient(url)
        image = next(images)[None]
        tensor = InferInput("pixel_values", list(image.shape), "UINT8")
        tensor.set_data_from_numpy(image)
        return connections.client.infer("pixel_embedding", [tensor], client_timeout=_TIMEOUT)

    return ask


def _device_mib() -> float | None:
    """Return the memory in use on all GPUs of this machine in MiB; None if nvidia-smi is missing."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return float(sum(map(float, done.stdout.split()))) if done.returncode == 0 else None
