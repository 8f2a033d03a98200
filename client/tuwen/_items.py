"""The items of a call or stream: many where many are wanted, and a clear error for a single one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, Literal

import numpy as np
from PIL import Image

from tuwen._decoded_images import snapshot
from tuwen._errors import InvalidArgumentError

__all__ = ["as_list", "check_some", "check_stream"]

Wanted = Literal["image", "text", "label", "template"]


def as_list(kind: Wanted, items: object) -> list[Any]:
    """Return the items of a call as a list: of a list, a tuple, a generator, a pandas Series, an array, ...

    Raises:
        InvalidArgumentError: a single item, or not an iterable; states what was passed, and shows the correct call.
    """
    if isinstance(items, AsyncIterable) and not isinstance(items, Iterable):
        raise _error(kind, items, f"for an asynchronous iterable iterate AsyncClient.stream_{kind}s({kind}s)")
    found = _checked(kind, items, "embed")
    return list(found) if isinstance(found, (list, tuple)) else [snapshot(item) for item in found]


def check_some(method: str, kind: Wanted, items: object) -> list[Any]:
    """Return the items of a call that needs at least one.

    Raises:
        InvalidArgumentError: as `as_list`, or there are no items.
    """
    found = as_list(kind, items)
    if not found:
        raise InvalidArgumentError(f"{method} needs at least one {kind}")
    return found


def check_stream(kind: Wanted, items: object, *, asynchronous: bool) -> None:
    """Reject what is not an iterable of items before the stream begins.

    Raises:
        InvalidArgumentError: a single item, or not an iterable; states what was passed, and shows the correct call.
    """
    if isinstance(items, AsyncIterable):
        if not asynchronous:
            raise _error(kind, items, f"for an asynchronous iterable iterate AsyncClient.stream_{kind}s({kind}s)")
    else:
        _checked(kind, items, "stream")


def _checked(kind: Wanted, items: object, verb: str) -> Iterable[Any]:
    one = f"{verb}_{kind}s([{kind}])" if kind in ("image", "text") else f"[{kind}]"
    advice = f"for one {kind} {'call' if kind in ('image', 'text') else 'pass'} {one}"
    if isinstance(items, Mapping):
        keyed = f", or stream_{kind}s({kind}s.items()) for outcomes with its keys" if verb == "stream" else ""
        raise _error(kind, items, f"pass its keys or its values{keyed}")
    single = isinstance(items, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image))
    if single or (kind == "image" and hasattr(items, "read")) or not isinstance(items, Iterable):
        raise _error(kind, items, advice)
    dimensions = getattr(items, "ndim", 1)
    if kind == "image" and isinstance(items, np.ndarray) and items.dtype.kind not in "OUS":
        if dimensions < 4:  # (H, W), or (H, W, C), or the bytes of a file; a batch is (N, H, W, C)
            raise _error(kind, items, advice)
    elif isinstance(dimensions, int) and dimensions != 1:  # such as a data frame, which gives the names of its columns
        raise _error(kind, items, f"pass one column, a {kind} in each row")
    return items


def _error(kind: Wanted, items: object, advice: str) -> InvalidArgumentError:
    shape = getattr(items, "shape", None)
    of_shape = f" of shape {tuple(shape)}" if isinstance(shape, tuple) else ""
    return InvalidArgumentError(f"expected a list of {kind}s, got {type(items).__name__}{of_shape}; {advice}")
