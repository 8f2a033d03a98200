"""Embedders for Haystack's pipelines. This module needs the extra ``haystack``.

An asynchronous pipeline runs these components in threads, because they have no ``run_async``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tuwen import Client, ImageInput, InvalidArgumentError, InvalidItemsError, ItemOutcome, MissingExtraError
from tuwen_integrations._vectors import vectors_and_failures

try:
    from haystack import Document, component, logging
except ImportError as error:
    raise MissingExtraError(f"Haystack needs an extra ({error}): pip install 'tuwen[haystack]'") from error

__all__ = ["TuwenDocumentEmbedder", "TuwenDocumentImageEmbedder", "TuwenTextEmbedder"]

_LOGGER = logging.getLogger(__name__)


class _Connection:
    """The client of one component. After `close`, the next use makes a new client.

    Args:
        url: ``host:port`` of the server's gRPC endpoint.
        timeout: seconds for each call, or for each request of a stream.
        expected_fingerprint: the fingerprint of the required embedding space; None: the space of the first response.
        client: a client of the caller, which stays open; None: the component makes a client from the other arguments.
    """

    def __init__(self, url: str, timeout: float, expected_fingerprint: str | None, client: Client | None) -> None:
        self._make = partial(Client, url, timeout=timeout, expected_fingerprint=expected_fingerprint)
        self._given = client
        self._made = self._make() if client is None else None
        self._lock = threading.Lock()

    def client(self) -> Client:
        """Return the client. If there is none, make a client."""
        with self._lock:
            if self._given is not None:
                return self._given
            if self._made is None:
                self._made = self._make()
            return self._made

    def close(self) -> None:
        """Close the client. A client that the caller passed stays open. Closing again does nothing."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()


@component
class TuwenTextEmbedder:
    """The Haystack component that embeds queries.

    Args:
        url: ``host:port`` of the server's gRPC endpoint.
        timeout: seconds for each query.
        expected_fingerprint: the fingerprint of the required embedding space, such as the space of an existing index.
            A server with another space raises an error. None: the space of the first response.
        client: a client with settings of its own, such as TLS; it replaces `url`, `timeout` and
            `expected_fingerprint`. A pipeline with such a client cannot be saved.
    """

    def __init__(
        self,
        url: str = "localhost:8001",
        *,
        timeout: float = 30.0,
        expected_fingerprint: str | None = None,
        client: Client | None = None,
    ) -> None:
        self.url = url
        self.timeout = timeout
        self.expected_fingerprint = expected_fingerprint
        self.client = client
        self._connection = _Connection(url, timeout, expected_fingerprint, client)

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    def run(self, text: str) -> dict[str, Any]:
        """Return the vector of a text, and the fingerprint of its embedding space."""
        clip = self._connection.client()
        return {"embedding": clip.embed_texts([text])[0].tolist(), "meta": _meta(clip)}

    def close(self) -> None:
        """Close the connection. The next run makes a new one."""
        self._connection.close()


@component
class TuwenDocumentEmbedder:
    """The Haystack component that embeds documents by their text. Documents are streamed, so their number is unlimited.

    Args:
        url: ``host:port`` of the server's gRPC endpoint.
        timeout: seconds for each request of the stream.
        expected_fingerprint: the fingerprint of the required embedding space, such as the space of an existing index.
            A server with another space raises an error. None: the space of the first response.
        meta_fields_to_embed: the names of metadata fields whose values are put before the document's content.
        embedding_separator: the text between these values and the content.
        raise_on_failure: whether a refused document raises an error. If false, the refusal is logged, and the document
            is returned without an embedding.
        client: a client with settings of its own, such as TLS; it replaces `url`, `timeout` and
            `expected_fingerprint`. A pipeline with such a client cannot be saved.

    Raises:
        InvalidItemsError: `run` raises this error if documents were refused. The error lists each with its index.
    """

    def __init__(
        self,
        url: str = "localhost:8001",
        *,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        raise_on_failure: bool = True,
        timeout: float = 30.0,
        expected_fingerprint: str | None = None,
        client: Client | None = None,
    ) -> None:
        self.url = url
        self.meta_fields_to_embed = meta_fields_to_embed or []
        self.embedding_separator = embedding_separator
        self.raise_on_failure = raise_on_failure
        self.timeout = timeout
        self.expected_fingerprint = expected_fingerprint
        self.client = client
        self._connection = _Connection(url, timeout, expected_fingerprint, client)

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Return copies of the documents with the vectors of their texts."""
        texts = [self._text(document) for document in documents]
        clip = self._connection.client()
        found = _with_vectors("text", documents, clip.stream_texts(texts), strict=self.raise_on_failure)
        return {"documents": found, "meta": _meta(clip)}

    def close(self) -> None:
        """Close the connection. The next run makes a new one."""
        self._connection.close()

    def _text(self, document: Document) -> str:
        fields = [document.meta[name] for name in self.meta_fields_to_embed if document.meta.get(name) is not None]
        return self.embedding_separator.join([*map(str, fields), document.content or ""])


@component
class TuwenDocumentImageEmbedder:
    """The Haystack component that embeds documents by their image.

    The image is the document's blob, or the file at the path in the document's metadata.

    Args:
        url: ``host:port`` of the server's gRPC endpoint.
        timeout: seconds for each request of the stream.
        expected_fingerprint: the fingerprint of the required embedding space, such as the space of an existing index.
            A server with another space raises an error. None: the space of the first response.
        file_path_meta_field: the name of the metadata field that holds the path.
        root_path: the folder to which paths are relative. Files outside this folder are not read. None: every path is
            allowed, which is safe only for documents from a trusted source.
        raise_on_failure: whether a refused image raises an error. If false, the refusal is logged, and the document is
            returned without an embedding.
        client: a client with settings of its own, such as TLS; it replaces `url`, `timeout` and
            `expected_fingerprint`. A pipeline with such a client cannot be saved.

    Raises:
        InvalidArgumentError: `run` raises this error if a document has neither a blob nor a path, or if its path lies
            outside `root_path`.
        InvalidItemsError: `run` raises this error if images were refused. The error lists each with its index.
    """

    def __init__(
        self,
        url: str = "localhost:8001",
        *,
        file_path_meta_field: str = "file_path",
        root_path: str | None = None,
        raise_on_failure: bool = True,
        timeout: float = 30.0,
        expected_fingerprint: str | None = None,
        client: Client | None = None,
    ) -> None:
        self.url = url
        self.file_path_meta_field = file_path_meta_field
        self.root_path = root_path
        self.raise_on_failure = raise_on_failure
        self.timeout = timeout
        self.expected_fingerprint = expected_fingerprint
        self.client = client
        self._connection = _Connection(url, timeout, expected_fingerprint, client)

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Return copies of the documents with the vectors of their images."""
        images = [self._image(document) for document in documents]
        clip = self._connection.client()
        found = _with_vectors("image", documents, clip.stream_images(images), strict=self.raise_on_failure)
        return {"documents": found, "meta": _meta(clip)}

    def close(self) -> None:
        """Close the connection. The next run makes a new one."""
        self._connection.close()

    def _image(self, document: Document) -> ImageInput:
        if document.blob is not None:
            data: bytes = document.blob.data
            return data
        name = document.meta.get(self.file_path_meta_field)
        if not isinstance(name, (str, Path)):
            field = f"meta[{self.file_path_meta_field!r}]"
            raise InvalidArgumentError(f"document {document.id}: expected a blob or a path in {field}, got {name!r}")
        if self.root_path is None:
            return Path(name)
        root = Path(self.root_path).resolve()
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise InvalidArgumentError(
                f"document {document.id}: expected a path inside {self.root_path!r}, got {str(name)!r}"
            )
        return path


def _with_vectors(
    kind: Literal["image", "text"], documents: list[Document], outcomes: Iterable[ItemOutcome], *, strict: bool
) -> list[Document]:
    """Return copies of the documents with their vectors.

    Args:
        kind: the kind of the embedded items.
        documents: the documents.
        outcomes: the outcome of each document, in order.
        strict: whether a refused document raises an error. If false, it is logged and gets no vector.

    Raises:
        InvalidItemsError: documents were refused, and `strict` is true.
    """
    vectors, failures = vectors_and_failures(outcomes)
    if failures and strict:
        raise InvalidItemsError(kind, tuple(failures), len(documents))
    for failure in failures:
        _LOGGER.warning("document {id} has no embedding: {why}", id=documents[failure.index].id, why=failure.status)
    return [replace(document, embedding=vector) for document, vector in zip(documents, vectors, strict=True)]


def _meta(clip: Client) -> dict[str, Any]:
    return {"model": "tuwen", "fingerprint": clip.model_card().fingerprint}
