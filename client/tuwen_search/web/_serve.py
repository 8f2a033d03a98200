"""The program around the page: routes, limits, and what all visitors share."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tuwen import AsyncClient, InvalidArgumentError, MissingExtraError, Tls
from tuwen_options import TIMEOUT, URL, Option, check_values, documented
from tuwen_search.collection import AsyncCollection
from tuwen_search.store import STORE
from tuwen_search.web._words import Language

__all__ = ["WebOptions", "serve"]


@documented
@dataclass(frozen=True)
class WebOptions:
    """The options of the search page.

    ``tls`` and ``headers`` reach the embedding server, as for `tuwen.Client`.
    """

    collection: Annotated[str, Option("Collection that `tuwen index` made.", positional=True)]
    folders: Annotated[
        tuple[Path, ...],
        Option(
            "Folder whose pictures are shown in full size instead of as thumbnails. Repeat for more.",
            flags=("--pictures",),
        ),
    ] = ()
    host: Annotated[str, Option("Address to listen on. The page has no password: open it to others with care.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Option("Port to listen on.", min=1, max=65535)] = 8080
    # All other names are refused, since anyone can make one resolve to this machine.
    allowed_hosts: Annotated[
        tuple[str, ...],
        Option(
            "Name under which browsers reach the page, such as that of a proxy. IP addresses, localhost and the "
            "address of --host are always allowed. Repeat for more.",
            flags=("--allowed-host",),
        ),
    ] = ()
    language: Annotated[Language, Option("Language of the page, until a visitor chooses.")] = "zh"
    # The embedding server takes 32 MiB.
    upload_mib: Annotated[int, Option("Maximum size in MiB of a picture to search with.", min=1, max=32)] = 16
    examples: Annotated[
        tuple[str, ...], Option("Text that visitors are offered. Repeat for more.", flags=("--example",))
    ] = ()
    store: Annotated[str | None, STORE] = field(default=None, repr=False)  # its address may hold a password
    url: Annotated[str, URL] = "localhost:8001"
    timeout: Annotated[float, TIMEOUT] = 20.0
    tls: Tls | None = None
    headers: dict[str, str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_values(self)
        for folder in self.folders:
            if not folder.is_dir():
                raise InvalidArgumentError(f"there is no folder {folder}")


def serve(options: WebOptions) -> None:
    """Serve the page until an interrupt.

    Raises:
        MissingExtraError: NiceGUI is not installed.
        TuwenError: the collection cannot be opened with this embedding server.
    """
    try:
        from fastapi import HTTPException  # noqa: PLC0415 - an extra
        from fastapi.responses import FileResponse, Response  # noqa: PLC0415
        from nicegui import app, ui  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(f"the page needs an extra ({error}): pip install 'tuwen[web]'") from error
    from tuwen_search.web._files import MEDIA_TYPES, file_of  # noqa: PLC0415
    from tuwen_search.web._guard import Guard  # noqa: PLC0415
    from tuwen_search.web._page import Service, build_page  # noqa: PLC0415

    roots = [folder.resolve() for folder in options.folders]
    shared: list[Service] = []
    opening = asyncio.Lock()

    async def service() -> Service:
        """Opened by whoever is first: NiceGUI answers requests while its startup handlers still run."""
        async with opening:
            if not shared:
                async with AsyncExitStack() as unless_opened:
                    client = AsyncClient(options.url, timeout=options.timeout, tls=options.tls, headers=options.headers)
                    unless_opened.push_async_callback(client.close)
                    card = await client.model_card()
                    collection = await AsyncCollection.open(options.collection, client, store=options.store)
                    unless_opened.pop_all()
                shared.append(Service(client, collection, card, options.upload_mib, options.examples))
        return shared[0]

    async def stop() -> None:
        for opened in shared:
            await opened.collection.close()
            await opened.client.close()

    async def page(q: str = "", language: str = options.language) -> None:
        await build_page(await service(), "en" if language == "en" else "zh", q)

    async def picture(picture_id: str) -> Response:
        known = re.fullmatch("[0-9a-f]{32}", picture_id)
        found = await (await service()).collection.get(picture_id) if known else None
        if found is None:
            raise HTTPException(404)
        path = file_of(found, roots)
        if path is not None:
            return FileResponse(path, media_type=MEDIA_TYPES[path.suffix.lower()])
        return Response(found.thumbnail, media_type="image/webp")

    app.on_startup(service)
    app.on_shutdown(stop)
    app.add_api_route("/pictures/{picture_id}", picture)
    hosts = (options.host, *options.allowed_hosts)
    app.add_middleware(Guard, most_bytes=options.upload_mib << 20, hosts=hosts)
    # NiceGUI answers 500 if a page takes longer; a first visit opens the collection, counts it and may embed.
    ui.page("/", response_timeout=3 * options.timeout)(page)
    ui.run(
        host=options.host,
        port=options.port,
        title="tuwen",
        favicon="🔎",
        reload=False,
        show=False,
        show_welcome_message=False,
    )
