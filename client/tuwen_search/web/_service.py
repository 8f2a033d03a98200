"""The state shared by all visitors of the page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tuwen import AsyncClient, ModelCard, Threshold
from tuwen_search.async_collection import AsyncCollection
from tuwen_search.web._suggestions import Suggestions
from tuwen_search.web._uploads import Uploads

__all__ = ["Service"]


@dataclass
class Service:
    """The state that all visitors of the page share.

    Attributes:
        client: the client of the embedding server.
        collection: the collection that is searched.
        card: the model card of the embedding server.
        upload_mib: the maximum size in MiB of a picture to search with.
        uploads: the pictures that visitors sent.
        suggestions: subjects, pictures and filters for a visitor who has not searched yet.
        threshold: the calibrated minimum score in searches for a text alone; None: all pictures are shown.
        roots: the folders whose pictures are shown in full size, with links resolved.
        replaced: whether the server has another model now, or the collection was dropped. Then a new service is needed.
        previews: a lock that is held while an upload is decoded, so that one upload at a time needs memory.
    """

    client: AsyncClient
    collection: AsyncCollection
    card: ModelCard
    upload_mib: int
    uploads: Uploads
    suggestions: Suggestions
    threshold: Threshold | None = None
    roots: Sequence[Path] = ()
    replaced: bool = False
    previews: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
