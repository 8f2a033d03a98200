"""Triton model `text_tokenization`: a thin adapter around tokens.py."""

import json
from itertools import accumulate, chain
from pathlib import Path

import triton_python_backend_utils as pb_utils

from .items import refusal, strings, wants_status
from .metrics import Counter
from .tokens import load_tokenizer


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self._max_bytes = int(parameters["MAX_TEXT_BYTES"]["string_value"])
        self._fingerprint = parameters["fingerprint"]["string_value"]
        self._tokenizer = load_tokenizer(Path(__file__).parent)
        self._truncated = Counter("tuwen_texts_truncated_total", "Texts cut to the context length")
        self._failures = Counter("tuwen_text_failures_total", "Texts refused, by reason", "reason")

    def execute(self, requests):
        batches = [pb_utils.get_input_tensor_by_name(request, "text").as_numpy()[:, 0] for request in requests]
        texts, statuses = zip(*map(self._decode, chain.from_iterable(batches)))
        tokens = self._tokenizer.encode(list(texts))
        if tokens.truncated.any():
            self._truncated.increment(by=int(tokens.truncated.sum()))
        ends = list(accumulate(map(len, batches)))
        slices = [slice(start, end) for start, end in zip([0, *ends], ends)]
        return [self._respond(request, tokens, statuses, rows) for request, rows in zip(requests, slices)]

    def _respond(self, request, tokens, statuses, rows):
        statuses = statuses[rows]
        if any(statuses) and not wants_status(request):
            return refusal("text", statuses)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("input_ids", tokens.input_ids[rows]),
                pb_utils.Tensor("attention_mask", tokens.attention_mask[rows]),
                pb_utils.Tensor("truncated", tokens.truncated[rows].reshape(-1, 1)),
                pb_utils.Tensor("status", strings(statuses)),
                pb_utils.Tensor("fingerprint", strings([self._fingerprint] * len(statuses))),
            ]
        )

    def _decode(self, data):
        """The text, or an empty one and why it was refused."""
        if len(data) > self._max_bytes:
            return self._refuse("too_many_bytes", f"{len(data)} bytes, the limit is {self._max_bytes}")
        try:
            return data.decode("utf-8"), ""
        except UnicodeDecodeError as error:
            return self._refuse("not_utf8", f"byte {error.start} is not UTF-8")

    def _refuse(self, reason, message):
        self._failures.increment(reason)
        return "", f"{reason}: {message}"
