"""A fake server in memory, for tests of your own code: ``Client(transport=FakeTransport())``, or `AsyncFakeTransport`.

The fake behaves like the real server. It returns unit vectors in order, refuses invalid items without failing the whole
request, and raises the real server's errors. Its vectors have no meaning, because they are random numbers with a hash
of the item as the seed. Equal items have equal vectors.
"""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from tuwen._errors import ClientClosedError, InputShapeError, ModelNotFoundError, ServerError, ServerStoppingError
from tuwen._responses import NAMED_EMBEDDING
from tuwen._transport import AsyncPendingResponse, InferRequest, InferResponse, ModelCard, Tensor
from tuwen.failures import ItemError
from tuwen.model_names import STEPS, check_name, full_name, name_and_model
from tuwen.pixels import open_image
from tuwen.statistics import ModelStatistics, Statistics

__all__ = ["AsyncFakeTransport", "FakeTransport"]

_MAX_TEXT_BYTES = 262_144  # the limit in model_repository/text_tokenization/config.pbtxt


class FakeTransport:
    """A fake server in memory for a `Client`.

    Args:
        embedding_dimension: the dimension D of the vectors.
        fingerprint: the fingerprint of the embedding space of the first model.
        context_length: the context length in the model card. A text with more than ``context_length - 2`` characters is
            reported as truncated.
        fail_with: the error that requests raise, to test how your code handles errors; None: no request fails.
        fail_times: the number of requests that raise `fail_with`, from the first request on; None: all requests.
        models: the names of the models, each with its own embedding space; an empty name stands for the model without
            a name.

    Attributes:
        requests: the requests that the client sent, in order.
        cards: the `ModelCard` of each model by name. Assign a new card to test an upgraded server, or the card of
            another model to test an alias. Delete a card to test a model that was unloaded.
        card: the card of the first model.
    """

    def __init__(
        self,
        *,
        embedding_dimension: int = 512,
        fingerprint: str = "0" * 32,
        context_length: int = 52,
        fail_with: ServerError | None = None,
        fail_times: int | None = None,
        models: Sequence[str] = ("",),
    ) -> None:
        self.requests: list[InferRequest] = []
        card = ModelCard(
            family="fake",
            checkpoint="fake",
            fingerprint=fingerprint,
            embedding_dimension=embedding_dimension,
            image_size=224,
            context_length=context_length,
            logit_scale=100.0,
            precision="fp32",
            max_batch_size=32,
        )
        self.cards: dict[str, ModelCard] = {}
        for name in models:
            check_name(name)
            digest = hashlib.sha256(f"{fingerprint} {name}".encode()).hexdigest()[:32]
            self.cards[name] = replace(card, name=name, fingerprint=digest if self.cards else fingerprint)
        self._main_model = next(iter(models))
        self._known = set(self.cards)
        self._fail_with = fail_with
        self._fail_times = fail_times
        self._closed = False
        self._lock = threading.Lock()

    @property
    def card(self) -> ModelCard:
        """The card of the first model."""
        return self.cards[self._main_model]

    @card.setter
    def card(self, card: ModelCard) -> None:
        self.cards[self._main_model] = card

    def infer(self, request: InferRequest, timeout: float) -> InferResponse:
        """Record a request, and return the fake response or raise the planned error."""
        return self.send(request, timeout).result()

    def send(self, request: InferRequest, timeout: float) -> _Answered:  # noqa: ARG002 - answers at once
        """Record a request, and return its pending response."""
        self._check()
        with self._lock:
            self.requests.append(request)
            fails = self._fail_times is None or len(self.requests) <= self._fail_times
        error = self._fail_with if fails else None
        name, _ = name_and_model(request.model) or (self._main_model, "")
        card = self.cards.get(name)
        if card is None:
            return _Answered(None, error or self._missing(name, request.model, request.request_id))
        self._known.add(name)
        return _Answered(self._answer(request, card), error or _shape_error(request, card))

    def model_card(self, timeout: float, model: str = "") -> ModelCard:  # noqa: ARG002
        """Return the card of a model.

        Raises:
            ServerError: there is no model with this name, or its card was deleted.
        """
        self._check()
        if model not in self.cards:
            raise self._missing(model, full_name(model, "image_embedding"))
        self._known.add(model)
        return self.cards[model]

    def statistics(self, timeout: float) -> Statistics:  # noqa: ARG002
        """Return the number of requests and items by model. All times are 0."""
        self._check()
        items: dict[str, list[int]] = {full_name(name, model): [] for name in self.cards for model in STEPS}
        for request in self.requests:
            items.setdefault(request.model, []).append(len(request.items))
        return {
            model: ModelStatistics(requests=len(counts), items=sum(counts), executions=len(counts))
            for model, counts in items.items()
        }

    def is_ready(self, timeout: float, model: str = "") -> bool:  # noqa: ARG002
        """Return whether the transport is open and has the model. An empty name stands for all models."""
        return not self._closed and (not model or model in self.cards)

    def close(self) -> None:
        """Close the transport. Later calls raise `ClientClosedError`."""
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise ClientClosedError

    def _missing(self, name: str, model: str, request_id: str = "") -> ServerError:
        """Return the error for a model that the server does not have. If the model was unloaded, a retry can help."""
        kind: type[ServerError] = ModelNotFoundError
        why = "is not found"
        if name in self._known:
            kind, why = ServerStoppingError, "has no available versions"
        message = f"Request for unknown model: '{model}' {why}"
        return kind(message, model=model, code="NOT_FOUND", request_id=request_id)

    def _answer(self, request: InferRequest, card: ModelCard) -> InferResponse:
        error_of = _image_error if request.input_name == "image" else _text_error
        errors = map(error_of, request.items)
        room = card.context_length - 2
        outputs: dict[str, Tensor] = {
            "embedding": np.stack([self._vector(item, card) for item in request.items]),
            "status": tuple(error.at(index).status.encode() if error else b"" for index, error in enumerate(errors)),
            "fingerprint": (card.fingerprint.encode(),) * len(request.items),
            "truncated": np.array([[len(item.decode("utf-8", "replace")) > room] for item in request.items]),
        }
        for tensor in outputs.values():
            if isinstance(tensor, np.ndarray):
                tensor.flags.writeable = False  # arrays of a real response are read-only, too
        if not request.outputs:  # the output is named after the embedding space
            return InferResponse({NAMED_EMBEDDING + card.fingerprint: outputs["embedding"]})
        return InferResponse({name: outputs[name] for name in request.outputs})

    def _vector(self, item: bytes, card: ModelCard) -> NDArray[np.float32]:
        seed = int.from_bytes(hashlib.sha256(card.name.encode() + item).digest()[:8], "little")
        vector = np.random.default_rng(seed).standard_normal(card.embedding_dimension)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


class AsyncFakeTransport:
    """A fake server in memory for an `AsyncClient`.

    Args:
        fake: the `FakeTransport` that handles the requests; None: a `FakeTransport` with default settings.

    Attributes:
        fake: the `FakeTransport` that handles the requests. ``fake.requests`` holds them.
    """

    def __init__(self, fake: FakeTransport | None = None) -> None:
        self.fake: FakeTransport = fake or FakeTransport()

    async def infer(self, request: InferRequest, timeout: float) -> InferResponse:
        """Record a request, and return the fake response or raise the planned error."""
        return self.fake.send(request, timeout).result()

    def send(self, request: InferRequest, timeout: float) -> AsyncPendingResponse:
        """Record a request, and return its pending response."""
        return AsyncPendingResponse(self.infer(request, timeout))

    async def model_card(self, timeout: float, model: str = "") -> ModelCard:
        """Return the card of a model.

        Raises:
            ServerError: there is no model with this name, or its card was deleted.
        """
        return self.fake.model_card(timeout, model)

    async def statistics(self, timeout: float) -> Statistics:
        """Return the number of requests and items by model. All times are 0."""
        return self.fake.statistics(timeout)

    async def is_ready(self, timeout: float, model: str = "") -> bool:
        """Return whether the transport is open and has the model. An empty name stands for all models."""
        return self.fake.is_ready(timeout, model)

    async def close(self) -> None:
        """Close the transport. Later calls raise `ClientClosedError`."""
        self.fake.close()


class _Answered:
    def __init__(self, response: InferResponse | None, error: ServerError | None) -> None:
        self._response = response
        self._error = error

    def result(self) -> InferResponse:
        if self._error is not None:
            raise copy.copy(self._error)  # copied, because the client adds the items of one request
        assert self._response is not None  # noqa: S101 - without an error there is a response
        return self._response

    def seconds(self) -> float:
        return 0.0

    def cancel(self) -> None:
        return


def _shape_error(request: InferRequest, card: ModelCard) -> InputShapeError | None:
    shape = (3, card.image_size, card.image_size)
    if request.item_shape in ((), shape):
        return None
    message = f"unexpected shape for input '{request.input_name}': expected {shape}, got {request.item_shape}"
    return InputShapeError(message, model=request.model, code="INVALID_ARGUMENT", request_id=request.request_id)


def _image_error(data: bytes) -> ItemError | None:
    if not data:
        return ItemError("empty", "the image has no bytes")
    try:
        with open_image(data) as image:
            image.load()
    except ItemError as error:
        return error
    except UnidentifiedImageError:
        return ItemError("unsupported_format", "the file is not an image in a supported format")
    except Exception as error:  # Pillow's decoders raise many types
        return ItemError("corrupt", f"cannot decode the image: {error}")
    return None


def _text_error(data: bytes) -> ItemError | None:
    if len(data) > _MAX_TEXT_BYTES:
        return ItemError("too_many_bytes", f"the text has {len(data)} bytes, the limit is {_MAX_TEXT_BYTES}")
    return None
