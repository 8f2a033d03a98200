"""What waits differently for threads than for asyncio: the source of items, and requests that are given up.

`tuwen._async_feed` is its twin. Everything between the two and the client is one text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tuwen._requests import Chunker, EmbeddingBatch, Part
from tuwen._routes import Threads
from tuwen._transport import PendingResponse

__all__ = ["Feed", "cancel_all"]


class Feed:
    """The requests of a call or stream, each of which is made when there is room for it.

    Args:
        items: the parts of a call, or the items of a stream.
        build: makes the request of a part; may read files.
        chunker: gathers the items of a stream into parts; None: they are parts.
        threads: of the asynchronous twin. Here the caller's thread makes the requests.
    """

    def __init__(
        self,
        items: Iterable[Any],
        build: Callable[[Part], EmbeddingBatch],
        *,
        chunker: Chunker | None = None,
        threads: Threads | None = None,  # noqa: ARG002
    ) -> None:
        self._parts: Iterator[Part] = iter(items) if chunker is None else _gathered(items, chunker)
        self._build = build

    def has_next(self, first: PendingResponse | None) -> bool:  # noqa: ARG002
        """Return True: a thread that waits for its source cannot wait for a response as well."""
        return True

    def next(self) -> tuple[Part, EmbeddingBatch] | None:
        """Return the next part and its request; None after the last one.

        Raises:
            Exception: what the source or `build` raises. The items before an error of the source come first.
        """
        part = next(self._parts, None)
        return None if part is None else (part, self._build(part))

    def close(self) -> None:
        """End the reading of the source."""
        self._parts = iter(())


def _gathered(items: Iterable[Any], chunker: Chunker) -> Iterator[Part]:
    try:
        for item in items:
            if part := chunker.add(item):
                yield part
    except Exception:
        if part := chunker.rest():
            yield part
        raise
    if part := chunker.rest():
        yield part


def cancel_all(responses: Iterable[PendingResponse]) -> None:
    """Give up on responses that are on their way."""
    for response in responses:
        response.cancel()
