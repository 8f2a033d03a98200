"""A multimodal embedding model for LlamaIndex. This module needs the extra ``llama-index``."""

from __future__ import annotations

import asyncio
from typing import Any

from tuwen import Client, MissingExtraError
from tuwen_integrations._vectors import Vectors

try:
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
    from llama_index.core.embeddings import MultiModalEmbedding
    from llama_index.core.schema import ImageType
except ImportError as error:
    raise MissingExtraError(f"LlamaIndex needs an extra ({error}): pip install 'tuwen[llama-index]'") from error

__all__ = ["TuwenEmbedding"]


class TuwenEmbedding(MultiModalEmbedding):
    """An embedding model of texts and images for LlamaIndex.

    The asynchronous methods run in threads, so any number of event loops can share one object. A copy in another
    process makes its own connection to `url`.

    Args:
        client: a client with settings of its own, such as TLS; it replaces the fields `url`, `timeout` and
            `expected_fingerprint`. An embedding model with such a client cannot be copied into another process.
        fields: the values of this class's fields, such as ``url``.
    """

    url: str = Field(default="localhost:8001", description="host:port of the server's gRPC endpoint.")
    timeout: float = Field(default=30.0, description="Seconds for each call.")
    expected_fingerprint: str | None = Field(
        default=None, description="The fingerprint of the required embedding space; None: any space."
    )
    _client: Client = PrivateAttr()
    _own: bool = PrivateAttr()

    def __init__(self, *, client: Client | None = None, **fields: Any) -> None:
        defaults: dict[str, Any] = {"model_name": "tuwen", "embed_batch_size": 32}
        super().__init__(**defaults | fields)
        self._own = client is None
        self._client = client or Client(self.url, timeout=self.timeout, expected_fingerprint=self.expected_fingerprint)

    def __getstate__(self) -> dict[str, Any]:
        if not self._own:
            raise TypeError(
                "a TuwenEmbedding with client= cannot be copied into another process; pass url= instead of client="
            )
        state: dict[str, Any] = super().__getstate__()
        return state

    @classmethod
    def class_name(cls) -> str:
        """Return the name of this class, which LlamaIndex writes into its files."""
        return "TuwenEmbedding"

    def _get_text_embeddings(self, texts: list[str]) -> Vectors:
        vectors: Vectors = self._client.embed_texts(texts).tolist()
        return vectors

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embeddings([query])[0]

    def _get_image_embeddings(self, img_file_paths: list[ImageType]) -> Vectors:
        vectors: Vectors = self._client.embed_images(img_file_paths).tolist()
        return vectors

    def _get_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return self._get_image_embeddings([img_file_path])[0]

    async def _aget_text_embeddings(self, texts: list[str]) -> Vectors:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_image_embeddings(self, img_file_paths: list[ImageType]) -> Vectors:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)

    async def _aget_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)
