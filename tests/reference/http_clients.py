"""Call a running HTTP edge with third-party clients: OpenAI, Cohere, LiteLLM, LangChain and LlamaIndex.

`tests/service/test_edge_clients.py` runs this program in the environment of `tests/environments.sh http_clients`::

    python http_clients.py ADDRESS KEY OPEN-ADDRESS PICTURE

OPEN-ADDRESS is the address of an edge that needs no key. The program prints each client's results, as one JSON object.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

TEXTS = ["一只猫", "a photo of a dog"]


def ask_openai(url: str, key: str, picture: str) -> dict[str, Any]:
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key)
    items = [*TEXTS, picture]
    answer = client.embeddings.create(model="tiny", input=items)  # the client requests base64 by default
    floats = client.embeddings.create(model="tiny", input=items, encoding_format="float")
    model = answer.model

    async def asynchronously() -> list[list[float]]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key) as clip:
            found = await clip.embeddings.create(model=model, input=items)
            return [one.embedding for one in found.data]

    return {
        "openai": [one.embedding for one in answer.data],
        "openai_float": [one.embedding for one in floats.data],
        "openai_async": asyncio.run(asynchronously()),
        "model": model,
        "models": [one.id for one in client.models.list()],
        "tokens": answer.usage.total_tokens,
        "errors": {
            "key": caught(openai.OpenAI(base_url=f"{url}/v1", api_key="wrong").models.list),
            "model": caught(lambda: client.embeddings.create(model="other", input="a")),
            "item": caught(lambda: client.embeddings.create(model="tiny", input=["a", "data:image/png;base64,AAAA"])),
            "dimensions": caught(lambda: client.embeddings.create(model="tiny", input="a", dimensions=3)),
        },
    }


def caught(call: Any) -> list[Any]:
    try:
        call()
    except Exception as error:
        return [type(error).__name__, getattr(error, "param", None), getattr(error, "code", None)]
    return []


def ask_cohere(url: str, key: str, picture: str) -> dict[str, Any]:
    import cohere

    client = cohere.ClientV2(api_key=key, base_url=url)
    kinds = ["float", "int8", "ubinary"]
    texts = client.embed(model="tiny", input_type="search_query", texts=TEXTS, embedding_types=kinds)
    images = client.embed(model="tiny", input_type="image", images=[picture], embedding_types=["float"])
    return {
        "cohere": texts.embeddings.float_ + images.embeddings.float_,
        "cohere_int8": texts.embeddings.int8,
        "cohere_ubinary": texts.embeddings.ubinary,
    }


def ask_litellm(url: str, key: str, open_url: str, picture: str) -> dict[str, Any]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise LiteLLM fetches a price list
    import litellm

    litellm.suppress_debug_info = True
    settings = {"api_base": f"{url}/v1", "api_key": key, "encoding_format": "float"}
    openai = litellm.embedding(model="openai/tiny", input=[*TEXTS, picture], **settings)
    path = f"{open_url}/v2/models/text_embedding/infer"  # LiteLLM's Triton provider cannot send a key
    triton = litellm.embedding(model="triton/text_embedding", input=TEXTS, api_base=path)
    return {
        "litellm": [one["embedding"] for one in openai.data],
        "litellm_triton": [one["embedding"] for one in triton.data],
    }


def ask_frameworks(url: str, key: str) -> dict[str, Any]:
    from langchain_openai import OpenAIEmbeddings
    from llama_index.embeddings.openai import OpenAIEmbedding

    # By default, langchain-openai sends token ids of OpenAI's tokenizer instead of texts.
    langchain = OpenAIEmbeddings(model="tiny", base_url=f"{url}/v1", api_key=key, check_embedding_ctx_length=False)
    llama = OpenAIEmbedding(model_name="tiny", api_base=f"{url}/v1", api_key=key)
    return {
        "langchain": langchain.embed_documents(TEXTS),
        "langchain_query": [langchain.embed_query(TEXTS[0])],
        "llama_index": llama.get_text_embedding_batch(TEXTS),
        "llama_index_query": [llama.get_query_embedding(TEXTS[0])],
    }


def main() -> None:
    url, key, open_url, path = sys.argv[1:]
    picture = f"data:image/png;base64,{base64.b64encode(Path(path).read_bytes()).decode()}"
    found = ask_openai(url, key, picture) | ask_cohere(url, key, picture) | ask_frameworks(url, key)
    print(json.dumps(found | ask_litellm(url, key, open_url, picture)))


if __name__ == "__main__":
    main()
