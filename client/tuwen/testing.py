"""A server in memory, for tests of your own code: ``Client(transport=FakeTransport())``, or its asynchronous twin.

It keeps the contract of the real one (unit vectors, an order, per-item refusals, the same errors), but its
vectors mean nothing: they are drawn from a hash of the item, equal items giving equal vectors.
"""

from __future__ import annotations

import hashlib
import io
import threading

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tuwen._card import ModelCard
from tuwen._errors import ClientClosedError, ServerError
from tuwen._requests import InferRequest, InferResponse, Tensor

__all__ = ["AsyncFakeTransport", "FakeTransport"]

_MAX_TEXT_BYTES = 262_144  # as in model_repository/text_tokenization/config.pbtxt


class FakeTransport:
    """A `Transport` without a server.

    Args:
        embedding_dimension: D of its vectors.
        context_length: texts of more characters than this, less two, are reported as truncated.
        fail_with: an error that requests raise, to test how your code takes it.
        fail_times: how many requests raise it, the first ones; None: all.

    Attributes:
        requests: every request it was sent, in order.
    """

    def __init__(
        self,
        *,
        embedding_dimension: int = 512,
        context_length: int = 52,
        fail_with: ServerError | None = None,
        fail_times: int | None = None,
    ) -> None:
        self.requests: list[InferRequest] = []
        self._card = ModelCard(
            family="fake",
            checkpoint="fake",
            fingerprint="0" * 32,
            embedding_dimension=embedding_dimension,
            image_size=224,
            context_length=context_length,
            logit_scale=100.0,
            precision="fp32",
            max_batch_size=32,
        )
        self._fail_with = fail_with
        self._fail_times = fail_times
        self._closed = False
        self._lock = threading.Lock()

    def send(self, request: InferRequest, timeout: float) -> _Answered:  # noqa: ARG002 - answers at once
        """See `Transport.send`."""
        self._check()
        with self._lock:
            self.requests.append(request)
            fails = self._fail_times is None or len(self.requests) <= self._fail_times
        return _Answered(self._answer(request), self._fail_with if fails else None)

    def model_card(self, timeout: float) -> ModelCard:  # noqa: ARG002
        """See `Transport.model_card`."""
        self._check()
        return self._card

    def is_ready(self, timeout: float) -> bool:  # noqa: ARG002
        """See `Transport.is_ready`."""
        return not self._closed

    def close(self) -> None:
        """See `Transport.close`."""
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise ClientClosedError

    def _answer(self, request: InferRequest) -> InferResponse:
        status = _image_status if request.input_name == "image" else _text_status
        room = self._card.context_length - 2
        outputs: dict[str, Tensor] = {
            "embedding": np.stack([self._vector(item) for item in request.items]),
            "status": tuple(status(item).encode() for item in request.items),
            "truncated": np.array([[len(item.decode("utf-8", "replace")) > room] for item in request.items]),
        }
        return InferResponse({name: outputs[name] for name in request.outputs})

    def _vector(self, item: bytes) -> NDArray[np.float32]:
        seed = int.from_bytes(hashlib.sha256(item).digest()[:8], "little")
        vector = np.random.default_rng(seed).standard_normal(self._card.embedding_dimension)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


class AsyncFakeTransport:
    """The same server in memory for an `AsyncClient`.

    Args:
        fake: the `FakeTransport` that answers; one with default settings if None.

    Attributes:
        fake: the same; ``fake.requests`` holds what was sent.
    """

    def __init__(self, fake: FakeTransport | None = None) -> None:
        self.fake = fake or FakeTransport()

    async def infer(self, request: InferRequest, timeout: float) -> InferResponse:
        """See `AsyncTransport.infer`."""
        return self.fake.send(request, timeout).result()

    async def model_card(self, timeout: float) -> ModelCard:
        """See `AsyncTransport.model_card`."""
        return self.fake.model_card(timeout)

    async def is_ready(self, timeout: float) -> bool:
        """See `AsyncTransport.is_ready`."""
        return self.fake.is_ready(timeout)

    async def close(self) -> None:
        """See `AsyncTransport.close`."""
        self.fake.close()


class _Answered:
    def __init__(self, response: InferResponse, error: ServerError | None) -> None:
        self._response = response
        self._error = error

    def result(self) -> InferResponse:
        if self._error is not None:
            raise self._error
        return self._response

    def cancel(self) -> None:
        return


def _image_status(data: bytes) -> str:
    if not data:
        return "empty: no bytes"
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except UnidentifiedImageError:
        return "unsupported_format: not an image"
    except Exception as error:  # whatever Pillow's decoders raise
        return f"corrupt: cannot decode: {error}"
    return ""


def _text_status(data: bytes) -> str:
    return f"too_many_bytes: {len(data)} bytes, the limit is {_MAX_TEXT_BYTES}" if len(data) > _MAX_TEXT_BYTES else ""
