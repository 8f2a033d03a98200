"""A program that uses every public call. `mypy --strict` compares the type of each result with the documented type.

`make lint` type-checks the program, and a test runs it on the fake server.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import assert_type

from tuwen import (
    AsyncClient,
    Classification,
    Client,
    EmbeddedItem,
    HttpFetcher,
    ImageInput,
    InvalidItemsError,
    ItemFailure,
    ItemOutcome,
    ModelCard,
    ModelStatistics,
    Profile,
    RefusedItem,
    RetryPolicy,
    ServerError,
    Similarity,
    Tls,
    TuwenError,
)
from tuwen.testing import AsyncFakeTransport, FakeTransport
from tuwen_files import EmbeddingTable

__all__ = ["asynchronous", "synchronous"]

Vectors = NDArray[np.float32]


def images(folder: Path) -> list[ImageInput]:
    """Return the same image in every form that the SDK accepts."""
    path = folder / "red.png"
    red = Image.new("RGB", (8, 8), "red")
    red.save(path)
    return [path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), red, np.zeros((8, 8, 3), dtype=np.uint8)]


def synchronous(folder: Path) -> None:
    """Make every call of `Client`."""
    fake = FakeTransport(embedding_dimension=64, context_length=52, fingerprint="0" * 32, models=[""])
    with Client(
        "localhost:8001",
        model="",
        timeout=30,
        tls=Tls(),
        headers={"authorization": "Bearer token"},
        retries=RetryPolicy(attempts=4),
        preprocess="server",
        fetcher=HttpFetcher(["img.example.com"]),
        expected_fingerprint="0" * 32,
        transport=fake,
    ) as clip:
        assert_type(clip, Client)
        assert_type(clip.embed_images(images(folder), timeout=5), Vectors)
        assert_type(clip.embed_texts(["一只猫", "一只狗"]), Vectors)

        scores = clip.similarity(images=images(folder), texts=["一只猫"])
        assert_type(scores, Similarity)
        assert_type(scores.cosine, Vectors)
        assert_type(scores.logits, Vectors)
        assert_type(scores.probabilities, Vectors)

        shown = clip.classify(images(folder), ["猫", "狗"], templates=["一张{}的照片"])
        assert_type(shown, Classification)
        assert_type(shown.best, tuple[str, ...])
        assert_type(shown.scores, Similarity)

        outcomes = clip.try_embed_images([*images(folder), b""])
        assert_type(outcomes, list[ItemOutcome])
        assert_type(clip.try_embed_texts(["猫"]), list[ItemOutcome])
        for outcome in outcomes:
            assert_type(outcome.index, int)
            assert_type(outcome.key, Hashable)
            assert_type(outcome.ok, bool)
            assert_type(outcome.embedding, Vectors | None)
            assert_type(outcome.error, ItemFailure | None)
            if outcome.ok:
                assert_type(outcome, EmbeddedItem)
                assert_type(outcome.embedding, Vectors)
            else:
                assert_type(outcome, RefusedItem)
                assert_type(outcome.error, ItemFailure)

        stream = clip.stream_images(((number, image) for number, image in enumerate(images(folder))), window=8)
        assert_type(stream, Generator[ItemOutcome, None, None])
        table = EmbeddingTable(
            [str(item.key) for item in stream], clip.embed_images(images(folder)), clip.model_card().fingerprint
        )
        clip.stream_texts([("key", 3)])  # type: ignore[list-item]  # a key comes with a text
        assert_type(clip.stream_texts(iter(["猫"]), skip={"狗"}, progress=True), Generator[ItemOutcome, None, None])

        table.save(folder / "vectors.npz")
        loaded = EmbeddingTable.load(folder / "vectors.npz", expected_fingerprint=table.fingerprint)
        assert_type(loaded, EmbeddingTable)
        assert_type(loaded.keys, Sequence[str])
        assert_type(loaded.joined(table).cosine(table), Vectors)

        assert_type(clip.model_card(), ModelCard)
        assert_type(clip.models(), dict[str, ModelCard])
        assert_type(clip.model_card().logit_scale, float)
        assert_type(clip.statistics(), Mapping[str, ModelStatistics])
        assert_type(clip.statistics()["text_embedding"].mean_batch_size, float)
        profile = clip.profile(images=images(folder), texts=["猫"])
        assert_type(profile, Profile)
        assert_type(profile.parts, Sequence[tuple[str, float]])
        assert_type(clip.is_ready(timeout=1), bool)
        try:
            clip.embed_images([b""])
        except InvalidItemsError as error:
            assert_type(error.failures, tuple[ItemFailure, ...])
        except ServerError as error:
            assert_type(error.items, tuple[int, ...])
            assert_type(error.retryable, bool)
        except TuwenError:
            raise
    clip.close()


async def asynchronous(folder: Path) -> None:
    """Make every call of `AsyncClient`."""

    async def token() -> Mapping[str, str]:
        return {"authorization": "Bearer token"}

    async def live() -> AsyncIterator[tuple[int, str]]:
        yield 7, "猫"

    async with AsyncClient(headers=token, transport=AsyncFakeTransport(), preprocess="client") as clip:
        assert_type(clip, AsyncClient)
        assert_type(await clip.embed_images(images(folder)), Vectors)
        assert_type(await clip.embed_texts(["一只猫"]), Vectors)
        assert_type(await clip.similarity(images=images(folder), texts=["一只猫"]), Similarity)
        assert_type(await clip.classify(images(folder), ["猫"], templates="en"), Classification)
        assert_type(await clip.try_embed_images(images(folder)), list[ItemOutcome])
        assert_type(await clip.try_embed_texts(["猫"]), list[ItemOutcome])
        assert_type(clip.stream_images(images(folder)), AsyncGenerator[ItemOutcome, None])
        stream = clip.stream_texts(live())
        assert_type(stream, AsyncGenerator[ItemOutcome, None])
        async for item in stream:
            assert_type(item, ItemOutcome)
        assert_type(await clip.model_card(), ModelCard)
        assert_type(await clip.models(), dict[str, ModelCard])
        assert_type(await clip.statistics(), Mapping[str, ModelStatistics])
        assert_type(await clip.profile(texts=["猫"]), Profile)
        assert_type(await clip.is_ready(), bool)
    await clip.close()


if __name__ == "__main__":
    synchronous(Path())
    asyncio.run(asynchronous(Path()))
