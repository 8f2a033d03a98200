"""Use the project's integrations from real LangChain, LlamaIndex and Haystack programs, on a running server.

`tests/service/test_frameworks.py` runs this program in the environment of `tests/environments.sh frameworks`::

    python frameworks.py HOST:PORT PICTURE OTHER-PICTURE

The program prints the results of each framework, as one JSON object.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuwen import Client, TextTruncatedWarning
from tuwen_integrations.haystack import TuwenDocumentEmbedder, TuwenDocumentImageEmbedder, TuwenTextEmbedder
from tuwen_integrations.langchain import TuwenEmbeddings
from tuwen_integrations.llama_index import TuwenEmbedding

TEXTS = ["一只猫", "a photo of a dog"]
LONG = "很长的文本" * 100


def caught(call: Callable[[], object]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def ask_langchain(url: str, pictures: list[str]) -> dict[str, Any]:
    from langchain_core.documents import Document
    from langchain_core.vectorstores import InMemoryVectorStore

    clip = TuwenEmbeddings(url)
    album = InMemoryVectorStore(TuwenEmbeddings(url, documents="images"))
    album.add_documents([Document(path) for path in pictures])
    with warnings.catch_warnings(record=True) as noticed:
        warnings.simplefilter("always")
        clip.embed_documents(["短", LONG])

    async def twice() -> list[list[float]]:
        return [*await clip.aembed_documents(TEXTS), await clip.aembed_query(TEXTS[0])]

    return {
        "documents": clip.embed_documents(TEXTS),
        "query": clip.embed_query(TEXTS[0]),
        "images": clip.embed_images(pictures),
        "image": clip.embed_image(uris=pictures),
        "loops": [asyncio.run(twice()), asyncio.run(twice())],
        "album": [[one.page_content, score] for one, score in album.similarity_search_with_score(TEXTS[0], k=2)],
        "refused": caught(lambda: clip.embed_images([pictures[0], b"no picture", "missing.png"])),
        "truncated": [str(one.message) for one in noticed if one.category is TextTruncatedWarning],
        "space": caught(lambda: TuwenEmbeddings(url, expected_fingerprint="0" * 32).embed_query("猫")),
        "documents of what": caught(lambda: TuwenEmbeddings(url, documents="pictures")),  # type: ignore[arg-type]
        "many": len(clip.embed_documents([f"文本 {number}" for number in range(1000)])),
    }


def ask_llama_index(url: str, pictures: list[str]) -> dict[str, Any]:
    from llama_index.core.indices import MultiModalVectorStoreIndex
    from llama_index.core.llms import MockLLM
    from llama_index.core.schema import ImageDocument, TextNode

    clip = TuwenEmbedding(url=url)
    images = [ImageDocument(image_path=path, metadata={"name": Path(path).stem}) for path in pictures]
    index = MultiModalVectorStoreIndex.from_documents(images, embed_model=clip, image_embed_model=clip)
    retriever = index.as_retriever(llm=MockLLM(), image_similarity_top_k=2)
    found = retriever.text_to_image_retrieve(TEXTS[0])
    own = TuwenEmbedding(client=Client(url))
    file = io.BytesIO(Path(pictures[1]).read_bytes())

    async def every() -> list[list[float]]:
        texts = await clip.aget_text_embedding_batch(TEXTS)
        query = await clip.aget_query_embedding(TEXTS[0])
        one = await clip.aget_image_embedding(pictures[0])
        return [*texts, query, one, *await clip.aget_image_embedding_batch(list(pictures))]

    return {
        "texts": clip.get_text_embedding_batch(TEXTS),
        "query": clip.get_query_embedding(TEXTS[0]),
        "images": [clip.get_image_embedding(pictures[0]), clip.get_image_embedding(file)],
        "batch": clip.get_image_embedding_batch(list(pictures)),
        "nodes": [node.embedding for node in clip([TextNode(text=text) for text in TEXTS])],
        "loops": [asyncio.run(every()), asyncio.run(every())],
        "retrieved": [[one.node.metadata["name"], one.score] for one in found],
        "copied": pickle.loads(pickle.dumps(clip)).get_query_embedding(TEXTS[0]),
        "not copied": caught(lambda: pickle.dumps(own)),
        "saved": TuwenEmbedding.from_dict(TuwenEmbedding(url=url, timeout=9).to_dict()).timeout,
        "space": caught(lambda: TuwenEmbedding(url=url, expected_fingerprint="0" * 32).get_query_embedding("猫")),
    }


def ask_haystack(url: str, pictures: list[str]) -> dict[str, Any]:
    from haystack import Document, Pipeline
    from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
    from haystack.components.writers import DocumentWriter
    from haystack.dataclasses import ByteStream
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    indexing = Pipeline()
    indexing.add_component("embedder", TuwenDocumentImageEmbedder(url, root_path=str(Path(pictures[0]).parent)))
    indexing.add_component("writer", DocumentWriter(store))
    indexing.connect("embedder.documents", "writer.documents")
    by_path = [Document(content=Path(path).stem, meta={"file_path": Path(path).name}) for path in pictures]
    indexing.run({"embedder": {"documents": by_path}})

    query = Pipeline()
    query.add_component("embedder", TuwenTextEmbedder(url))
    query.add_component("retriever", InMemoryEmbeddingRetriever(store))
    query.connect("embedder.embedding", "retriever.query_embedding")
    saved = Pipeline.loads(query.dumps(), allowed_modules=["tuwen_integrations.*"])
    ask = {"embedder": {"text": TEXTS[0]}}
    found = query.run(ask)["retriever"]["documents"]

    blobs = [Document(blob=ByteStream(Path(path).read_bytes())) for path in pictures]
    texts = TuwenDocumentEmbedder(url).run([Document(content=text) for text in TEXTS])
    titled = TuwenDocumentEmbedder(url, meta_fields_to_embed=["title", "none"], embedding_separator=" ")
    bad = [blobs[0], Document(blob=ByteStream(b"no picture"))]
    messages = io.StringIO()
    logging.getLogger("tuwen_integrations.haystack").addHandler(logging.StreamHandler(messages))
    lenient = TuwenDocumentImageEmbedder(url, raise_on_failure=False).run(bad)["documents"]
    inside = TuwenDocumentImageEmbedder(url, root_path=tempfile.gettempdir())
    closing = Pipeline()
    closing.add_component("embedder", TuwenTextEmbedder(url))
    before = closing.run(ask)["embedder"]["embedding"]
    closing.close()
    with Client(url) as mine:
        lent = TuwenTextEmbedder(client=mine)
        lent.close()
        after = [closing.run(ask)["embedder"]["embedding"], lent.run(TEXTS[0])["embedding"]]
    own = Pipeline()
    own.add_component("embedder", TuwenTextEmbedder(client=Client(url)))
    return {
        "text": TuwenTextEmbedder(url).run(TEXTS[0]),
        "documents": [one.embedding for one in texts["documents"]],
        "meta": texts["meta"],
        "blobs": [one.embedding for one in TuwenDocumentImageEmbedder(url).run(blobs)["documents"]],
        "titled": titled.run([Document(content="猫", meta={"title": "一只", "none": None})])["documents"][0].embedding,
        "found": [[one.content, one.score] for one in found],
        "saved": [one.content for one in saved.run(ask)["retriever"]["documents"]] if saved.warm_up() is None else [],
        "asynchronous": [one.content for one in asyncio.run(query.run_async(ask))["retriever"]["documents"]],
        "refused": caught(lambda: TuwenDocumentImageEmbedder(url).run(bad)),
        "lenient": [one.embedding is not None for one in lenient],
        "logged": messages.getvalue(),
        "outside": caught(lambda: inside.run([Document(meta={"file_path": "../etc/passwd"})])),
        "nothing": caught(lambda: inside.run([Document(content="a text")])),
        "closed": [before, *after],
        "not saved": caught(own.dumps),
    }


def main() -> None:
    url, *pictures = sys.argv[1:]
    with Client(url) as clip:
        found = {
            "texts": clip.embed_texts(TEXTS).tolist(),
            "pictures": clip.embed_images(pictures).tolist(),
            "titled": clip.embed_texts(["一只 猫"])[0].tolist(),
            "fingerprint": clip.model_card().fingerprint,
        }
    found |= {"langchain": ask_langchain(url, pictures), "llama_index": ask_llama_index(url, pictures)}
    print(json.dumps(found | {"haystack": ask_haystack(url, pictures)}))


if __name__ == "__main__":
    main()
