"""The Triton model `text_tokenization`, a thin adapter around tokens.py."""

import json
from itertools import accumulate, chain
from pathlib import Path

import triton_python_backend_utils as pb_utils

from .failures import TEXT_REASONS, ItemError
from .items import failures_of, refusal, statuses, strings, wants_status
from .metrics import Counter
from .tokens import load_tokenizer


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self._max_bytes = int(parameters["MAX_TEXT_BYTES"]["string_value"])
        self._fingerprint = parameters["fingerprint"]["string_value"]
        self._tokenizer = load_tokenizer(Path(__file__).parent)
        self._truncated = Counter("tuwen_texts_truncated_total", "Texts cut to the context length")
        self._failures = Counter("tuwen_text_failures_total", "Texts refused, by reason", "reason", TEXT_REASONS)

    def execute(self, requests):
        batches = [pb_utils.get_input_tensor_by_name(request, "text").as_numpy()[:, 0] for request in requests]
        texts, errors = zip(*map(self._decode, chain.from_iterable(batches)))
        tokens = self._tokenizer.encode(list(texts))
        if tokens.truncated.any():
            self._truncated.increment(by=int(tokens.truncated.sum()))
        ends = list(accumulate(map(len, batches)))
        slices = [slice(start, end) for start, end in zip([0, *ends], ends)]
        return [self._respond(request, tokens, errors[rows], rows) for request, rows in zip(requests, slices)]

    def _respond(self, request, tokens, errors, rows):
        failures = failures_of(errors)
        for failure in failures:
            self._failures.increment(failure.reason)
        if failures and not wants_status(request):
            return refusal("text", failures, len(errors))
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("input_ids", tokens.input_ids[rows]),
                pb_utils.Tensor("attention_mask", tokens.attention_mask[rows]),
                pb_utils.Tensor("truncated", tokens.truncated[rows].reshape(-1, 1)),
                pb_utils.Tensor("status", statuses(failures, len(errors))),
                pb_utils.Tensor("fingerprint", strings([self._fingerprint] * len(errors))),
            ]
        )

    def _decode(self, data):
        """Return the text and None, or an empty text and the reason why it is rejected."""
        if len(data) > self._max_bytes:
            return "", ItemError("too_many_bytes", f"the text has {len(data)} bytes, the limit is {self._max_bytes}")
        try:
            return data.decode("utf-8"), None
        except UnicodeDecodeError as error:
            return "", ItemError("not_utf8", f"byte {error.start} is not UTF-8")
