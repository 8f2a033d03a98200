"""The Triton model `image_preprocessing`, a thin adapter around pixels.py.

One thread pool decodes a batch of requests. Pillow releases the interpreter lock while it decodes and resizes, so the
threads of one process use every core.
"""

import json
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

# Each image has one thread. Libraries with threads of their own would compete for the same cores.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

from .container_limits import usable_cores  # noqa: E402
from .failures import IMAGE_REASONS, ItemError  # noqa: E402
from .items import failures_of, refusal, statuses, strings, wants_status  # noqa: E402
from .metrics import Counter, Histogram  # noqa: E402
from .pixels import ImageLimits, load_preprocessor  # noqa: E402

try:
    from pillow_heif import options as heif_options
except ImportError:  # an extra, without which HEIC images are refused
    pass
else:
    heif_options.DECODE_THREADS = 1

DECODE_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]

        def setting(name):
            return int(parameters[name]["string_value"])

        self._fingerprint = parameters["fingerprint"]["string_value"]
        limits = ImageLimits(*(setting(f"MAX_IMAGE_{of}") for of in ("BYTES", "PIXELS", "FRAMES", "PARTS", "SCANS")))
        self._preprocessor = load_preprocessor(Path(__file__).parent, limits)
        threads = setting("DECODE_THREADS") or int(os.environ.get("DECODE_THREADS") or 0) or usable_cores()
        self._pool = ThreadPoolExecutor(threads)
        self._seconds = Histogram(
            "tuwen_image_decode_seconds", "Time to decode and resize one image, in seconds", DECODE_SECONDS
        )
        self._failures = Counter(
            "tuwen_image_decode_failures_total", "Images refused, by reason", "reason", IMAGE_REASONS
        )
        warnings.simplefilter("ignore")  # Pillow warns about unusual files, which are judged by the result of decoding

    def execute(self, requests):
        images = [pb_utils.get_input_tensor_by_name(request, "image").as_numpy()[:, 0] for request in requests]
        encoded = list(chain.from_iterable(images))
        in_turn = self._pool.map if len(encoded) > 1 else map  # a single image needs no second thread
        outcomes = in_turn(self._preprocess, encoded)
        return [self._respond(request, [next(outcomes) for _ in batch]) for request, batch in zip(requests, images)]

    def finalize(self):
        self._pool.shutdown()

    def _preprocess(self, data):
        started = time.perf_counter()
        try:
            pixels = self._preprocessor.pixel_values(data)
        except ItemError as error:
            return None, error, time.perf_counter() - started
        return pixels, None, time.perf_counter() - started

    def _respond(self, request, outcomes):
        side = self._preprocessor.image_size
        pixel_values = np.zeros((len(outcomes), 3, side, side), dtype=np.uint8)
        for index, (pixels, _, seconds) in enumerate(outcomes):
            self._seconds.observe(seconds)
            if pixels is not None:
                pixel_values[index] = pixels
        failures = failures_of(error for _, error, _ in outcomes)
        for failure in failures:
            self._failures.increment(failure.reason)
        if failures and not wants_status(request):
            return refusal("image", failures, len(outcomes))
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("pixel_values", pixel_values),
                pb_utils.Tensor("status", statuses(failures, len(outcomes))),
                pb_utils.Tensor("fingerprint", strings([self._fingerprint] * len(outcomes))),
            ]
        )
