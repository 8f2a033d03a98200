"""图文: Chinese-CLIP and CLIP embeddings from a Triton Inference Server.

::

    from tuwen import Client

    with Client("localhost:8001") as clip:
        vectors = clip.embed_images(["cat.jpg", "dog.png"])
        scores = clip.similarity(images=["cat.jpg"], texts=["一只猫", "一只狗"])
        print(scores.probabilities)
"""

from tuwen._async_client import AsyncClient
from tuwen._client import Client
from tuwen._errors import (
    AccessDeniedError,
    AddressError,
    ClientClosedError,
    DeadlineExceededError,
    EmbeddingSpaceError,
    EventLoopError,
    ForkError,
    InferenceError,
    InvalidArgumentError,
    InvalidItemsError,
    MissingExtraError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    ServerStoppingError,
    ServerUnavailableError,
    TuwenError,
)
from tuwen._fetching import HttpFetcher
from tuwen._images import ImageInput
from tuwen._pacing import RetryPolicy
from tuwen._requests import KeyedImage, KeyedText
from tuwen._responses import EmbeddedItem, ItemOutcome, RefusedItem, TextTruncatedWarning
from tuwen._routes import Preprocess
from tuwen._transport import ModelCard
from tuwen.connection import Tls
from tuwen.failures import ItemFailure
from tuwen.statistics import ModelStatistics, Profile, Statistics
from tuwen.zero_shot import Classification, Similarity, Templates, Threshold

__version__: str
"""The version of the installed distribution, such as ``0.1.0``, from the metadata of the distribution."""

__all__ = [
    "AccessDeniedError",
    "AddressError",
    "AsyncClient",
    "Classification",
    "Client",
    "ClientClosedError",
    "DeadlineExceededError",
    "EmbeddedItem",
    "EmbeddingSpaceError",
    "EventLoopError",
    "ForkError",
    "HttpFetcher",
    "ImageInput",
    "InferenceError",
    "InvalidArgumentError",
    "InvalidItemsError",
    "ItemFailure",
    "ItemOutcome",
    "KeyedImage",
    "KeyedText",
    "MissingExtraError",
    "ModelCard",
    "ModelNotFoundError",
    "ModelStatistics",
    "OverloadedError",
    "Preprocess",
    "Profile",
    "RefusedItem",
    "RetryPolicy",
    "ServerError",
    "ServerStoppingError",
    "ServerUnavailableError",
    "Similarity",
    "Statistics",
    "Templates",
    "TextTruncatedWarning",
    "Threshold",
    "Tls",
    "TuwenError",
]


def __getattr__(name: str) -> str:
    if name == "__version__":  # read on first access, because importing importlib.metadata is slow
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

        try:
            return version("tuwen")
        except PackageNotFoundError as error:
            raise AttributeError("tuwen runs from its source and is not installed, so it has no version") from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
