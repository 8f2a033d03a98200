"""The responses of the Python models for each item of a batch, so that a bad item does not fail the others."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils

__all__ = ["failures_of", "refusal", "statuses", "strings", "wants_status"]


def wants_status(request):
    """Return whether the request has the parameter `per_item_status`, so that the caller reads the output `status`."""
    return json.loads(request.parameters() or "{}").get("per_item_status") in (True, "true")


def failures_of(errors):
    """Return the failures of the bad items of a request, from a list with an `ItemError` or None for each item."""
    return [error.at(index) for index, error in enumerate(errors) if error is not None]


def statuses(failures, count):
    """Return the output ``status`` of a request of `count` items."""
    found = [""] * count
    for failure in failures:
        found[failure.index] = failure.status
    return strings(found)


def refusal(kind, failures, count):
    """Return an INVALID_ARGUMENT error with the index of every bad item, for callers that do not read `status`."""
    bad = "; ".join(f"{kind} {failure.index}: {failure.status}" for failure in failures)
    message = f"{len(failures)} of {count} {kind}s refused: {bad}"
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))


def strings(values):
    """Return a TYPE_STRING tensor (n, 1) of Python strings."""
    return np.array([value.encode("utf-8") for value in values], dtype=object).reshape(-1, 1)
