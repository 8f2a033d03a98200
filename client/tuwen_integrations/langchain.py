"""An embedding model for LangChain. This module needs the extra ``langchain``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tuwen import Client, ImageInput, InvalidArgumentError, MissingExtraError
from tuwen_integrations._vectors import Vectors, vectors_of

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    raise MissingExtraError(f"LangChain needs an extra ({error}): pip install 'tuwen[langchain]'") from error

__all__ = ["TuwenEmbeddings"]


class TuwenEmbeddings(Embeddings):
    """An embedding model of texts and images for LangChain's vector stores.

    Documents and images are embedded as streams, so their number is not limited, and the server handles queries first.
    The asynchronous methods run in threads, so any number of event loops can share one object.

    Args:
        url: ``host:port`` of the server's gRPC endpoint.
        documents: the kind of a vector store's documents, ``texts`` or ``images``. With ``images``, the content of a
            document is the path or the ``data:`` URL of a picture. Queries are always texts. Take paths only from a
            trusted source, because the files at these paths are read.
        timeout: seconds for a query, and for each request of a stream.
        expected_fingerprint: the fingerprint of the required embedding space, such as the space of an existing index.
            A server with another space raises an error. None: the space of the first response.
        client: a client with settings of its own, such as TLS; it replaces `url`, `timeout` and
            `expected_fingerprint`.

    Raises:
        InvalidArgumentError: `documents` is neither ``texts`` nor ``images``.
    """

    def __init__(
        self,
        url: str = "localhost:8001",
        *,
        documents: Literal["texts", "images"] = "texts",
        timeout: float = 30.0,
        expected_fingerprint: str | None = None,
        client: Client | None = None,
    ) -> None:
        if documents not in ("texts", "images"):
            raise InvalidArgumentError(f"documents: expected 'texts' or 'images', got {documents!r}")
        self.client = client or Client(url, timeout=timeout, expected_fingerprint=expected_fingerprint)
        self.documents = documents

    def embed_documents(self, texts: list[str]) -> Vectors:
        """Return a vector for each document: the vector of its text, or of the picture at its path or ``data:`` URL.

        Raises:
            InvalidItemsError: documents were refused. The error lists each with its index and the reason.
        """
        if self.documents == "images":
            return self.embed_images(texts)
        return vectors_of("text", self.client.stream_texts(texts))

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a text."""
        vector: list[float] = self.client.embed_texts([text])[0].tolist()
        return vector

    def embed_images(self, images: Iterable[ImageInput]) -> Vectors:
        """Return a vector for each image: a path, a ``data:`` URL, encoded bytes, a PIL image or an array.

        Raises:
            InvalidItemsError: images were refused. The error lists each with its index and the reason.
        """
        return vectors_of("image", self.client.stream_images(images))

    def embed_image(self, uris: list[str]) -> Vectors:
        """Return a vector for each picture. LangChain's Chroma calls `embed_images` by this name."""
        return self.embed_images(uris)
