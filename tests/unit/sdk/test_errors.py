"""The error classes: their base classes, their messages, and pickling for another process."""

from __future__ import annotations

import pickle

import pytest

import tuwen
from tuwen import EmbeddingSpaceError, InvalidItemsError, ItemFailure, OverloadedError, ServerError, TuwenError

KINDS = [kind for kind in vars(tuwen).values() if isinstance(kind, type) and issubclass(kind, TuwenError)]
FAILURES = (ItemFailure(1, "corrupt", "cannot decode"), ItemFailure(3, "empty", "no bytes"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_class_stands_in_the_tree_of_the_docstring(kind: type[TuwenError]) -> None:
    lines = (tuwen._errors.__doc__ or "").splitlines()
    (line,) = [line for line in lines if f"── {kind.__name__} " in line or line.strip() == kind.__name__]
    assert kind.retryable == ("*" in line)
    for base in (ValueError, RuntimeError, ImportError):
        assert issubclass(kind, base) == (f"({base.__name__})" in line)


@pytest.mark.parametrize(
    "error",
    [
        InvalidItemsError("image", FAILURES, 5),
        EmbeddingSpaceError("a", "b", "the vectors of old.npz"),
        OverloadedError("full", model="text_embedding", code="UNAVAILABLE", request_id="7", items=(0, 1)),
        tuwen.ClientClosedError(),
        tuwen.InvalidArgumentError("not so"),
    ],
)
def test_errors_survive_pickling(error: TuwenError) -> None:
    """An error keeps its type, message and attributes when concurrent.futures pickles it for another process."""
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)


def test_errors_have_clear_messages() -> None:
    assert str(InvalidItemsError("image", FAILURES, 5)) == (
        "2 of 5 images refused: item 1: corrupt: cannot decode; item 3: empty: no bytes"
    )
    assert str(EmbeddingSpaceError("a", "b", "the vectors of old.npz")) == (
        "the vectors of old.npz belong to the embedding space b, expected a; start the server of that model, or "
        "embed everything again with one model"
    )
    assert str(ServerError("broken")) == "broken"
