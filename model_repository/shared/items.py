"""One bad item is that item's problem: how the Python models answer for each item of a batch."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils

__all__ = ["refusal", "strings", "wants_status"]


def wants_status(request):
    """Whether the caller sent the request parameter `per_item_status`, and so reads the `status` output."""
    return json.loads(request.parameters() or "{}").get("per_item_status") in (True, "true")


def refusal(kind, statuses):
    """INVALID_ARGUMENT for a caller that does not read statuses, naming every bad item by its index."""
    bad = [f"{kind} {index}: {status}" for index, status in enumerate(statuses) if status]
    message = f"{len(bad)} of {len(statuses)} {kind}s refused: {'; '.join(bad)}"
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))


def strings(values):
    """A TYPE_STRING tensor (n, 1) of Python strings."""
    return np.array([value.encode("utf-8") for value in values], dtype=object).reshape(-1, 1)
