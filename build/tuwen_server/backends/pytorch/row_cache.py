"""The cache of an encoder: the output row for each row of its inputs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["RowCache"]

Array: TypeAlias = NDArray[Any]
Compute: TypeAlias = Callable[[list[Array]], Array]
_Key: TypeAlias = tuple[bytes, ...] | int

_OVERHEAD = 450  # bytes of the Python objects of one entry, besides its data


class RowCache:
    """A cache of the most recent output rows, by the bytes of the input rows.

    A key holds the bytes themselves, not a hash, so two inputs never share an entry. A failed computation leaves no
    entry. Rows of zeros are always computed, and neither stored nor counted, because Triton's warm-up sends them.

    Args:
        size: the memory for the entries, in bytes. The least recently used entries are removed first.
        count: a function that is called for each batch with the number of hits and the number of misses.
    """

    def __init__(self, size: int, count: Callable[[int, int], None]) -> None:
        self._free = size
        self._count = count
        self._entries: OrderedDict[_Key, Array] = OrderedDict()

    def rows(self, inputs: Sequence[Array], compute: Compute) -> Array:
        """Return the output rows of a batch. Unknown rows are computed, equal rows only once.

        Args:
            inputs: one array (n, ...) for each input.
            compute: a function from the m unknown input rows to their output rows (m, ...).

        Returns:
            A new array (n, ...).
        """
        keys = _keys(inputs)
        if not keys:
            return compute(list(inputs))
        found = {key: row for key in keys if (row := self._recall(key)) is not None}
        missing: dict[_Key, int] = {}
        for index, key in enumerate(keys):
            if key not in found:
                missing.setdefault(key, index)
        if missing:
            indices = list(missing.values())
            for key, row in zip(missing, compute([array[indices] for array in inputs]), strict=True):
                found[key] = row
                self._keep(key, row)
        self._count(len(keys) - len(missing), sum(isinstance(key, tuple) for key in missing))
        return np.stack([found[key] for key in keys])

    def _recall(self, key: _Key) -> Array | None:
        row = self._entries.get(key)
        if row is not None:
            self._entries.move_to_end(key)
        return row

    def _keep(self, key: _Key, row: Array) -> None:
        if not isinstance(key, tuple):
            return
        self._entries[key] = row.copy()  # copied, because a view would keep its whole batch in memory
        self._free -= _cost(key, row)
        while self._free < 0:
            self._free += _cost(*self._entries.popitem(last=False))


def _keys(inputs: Sequence[Array]) -> list[_Key]:
    """Return a key for each row of a batch: the bytes of the row.

    A row of zeros gets its index as key, which is never stored, because Triton's warm-up must compute such rows.
    """
    rows = zip(*inputs, strict=True)
    return [tuple(part.tobytes() for part in row) if any(map(np.any, row)) else n for n, row in enumerate(rows)]


def _cost(key: _Key, row: Array) -> int:
    assert isinstance(key, tuple)  # noqa: S101 - no other key is kept
    return sum(map(len, key)) + row.nbytes + _OVERHEAD
