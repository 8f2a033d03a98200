"""The routes of the page: the page itself, uploads and pictures."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tuwen import AsyncClient, TuwenError
from tuwen_search.async_collection import AsyncCollection
from tuwen_search.cutoff import threshold_of
from tuwen_search.records import describe
from tuwen_search.web._address import LONGEST_TEXT, Address
from tuwen_search.web._files import MEDIA_TYPES, file_of
from tuwen_search.web._guard import Guard
from tuwen_search.web._messages import Message, message_of
from tuwen_search.web._page import response_of
from tuwen_search.web._serve import WebOptions
from tuwen_search.web._service import Service
from tuwen_search.web._suggestions import Suggestions
from tuwen_search.web._translations import WORDS
from tuwen_search.web._uploads import Upload, Uploads
from tuwen_search.web._view import shown_name

__all__ = ["application"]

_KEPT_UPLOADS = 128 << 20
_log = logging.getLogger("tuwen.web")


def application(options: WebOptions) -> Starlette:
    """Return the page as an ASGI application."""
    site = _Site(options)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await site.close()

    hosts = (options.host, *options.allowed_hosts)
    return Starlette(
        routes=[
            Route("/", site.page),
            Route("/uploads", site.upload, methods=["POST"]),
            Route(
                "/uploads", RedirectResponse("/"), methods=["GET"]
            ),  # a browser has this address after a refused upload
            Route("/pictures/{picture_id}", site.picture),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[Middleware(Guard, most_bytes=options.upload_mib << 20, hosts=hosts)],
        lifespan=lifespan,
    )


class _Site:
    """The handlers of all routes, and the service that they share."""

    def __init__(self, options: WebOptions) -> None:
        self._options, self._opening = options, asyncio.Lock()
        self._opened: Service | None = None
        self._retired: list[Service] = []  # replaced services, which may still answer other visitors
        self._uploads = Uploads(_KEPT_UPLOADS)

    async def close(self) -> None:
        """Close the clients and the collections that were opened."""
        for service in (*self._retired, *([self._opened] if self._opened else [])):
            await service.collection.close()
            await service.client.close()

    async def page(self, request: Request) -> Response:
        """Respond with the page at an address."""
        address = Address.parse(request.query_params.multi_items(), self._options.language)
        return await self._answer(address, long_text=len(request.query_params.get("q", "").strip()) > LONGEST_TEXT)

    async def upload(self, request: Request) -> Response:
        """Keep an uploaded picture, and redirect the browser to a search with this picture."""
        if not _is_own_form(request):
            return PlainTextResponse("expected a form from this page, got a form from another site\n", 403)
        async with request.form(max_files=1, max_fields=200) as form:
            fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
            sent = form.get("file")
            data = await sent.read() if isinstance(sent, UploadFile) else b""
            name = Path(sent.filename or "").name if isinstance(sent, UploadFile) else ""
        address = Address.parse(fields, self._options.language)
        words = WORDS[address.language]
        if not data:
            return await self._answer(address, Message(words.no_file, status=400, choose=True))
        if len(data) > self._options.upload_mib << 20:
            return await self._answer(
                address, Message(words.too_large.format(mib=self._options.upload_mib), status=413, choose=True)
            )
        try:
            service = await self._service()
        except TuwenError:
            return await self._answer(address)
        async with service.previews:
            preview = await asyncio.to_thread(_preview, data)
        key = service.uploads.keep(Upload(data, name, preview))
        return RedirectResponse(replace(address, page=1, open="", labels="").href(picture=key), 303)

    async def picture(self, request: Request) -> Response:
        """Respond with a picture's file, or with its thumbnail if the file may not be shown."""
        picture_id = request.path_params["picture_id"]
        if not re.fullmatch("[0-9a-f]{32}", picture_id):
            return PlainTextResponse("there is no such picture\n", 404)
        try:
            service = await self._service()
            found = await service.collection.get(picture_id)
        except TuwenError as error:
            _log.warning("cannot show a picture: %s", error)
            return PlainTextResponse("the collection does not answer; try again later\n", 503)
        if found is None:
            return PlainTextResponse("there is no such picture\n", 404)
        path = file_of(found, service.roots)
        if path is None:
            return Response(found.thumbnail, media_type="image/webp")
        name = shown_name(found, service.roots).rpartition("/")[2] if "download" in request.query_params else None
        return FileResponse(path, media_type=MEDIA_TYPES[path.suffix.lower()], filename=name)

    async def _answer(self, address: Address, *messages: Message, long_text: bool = False) -> Response:
        for _ in range(2):  # again if the model or the collection was replaced while the page was open
            said, service = list(messages), None
            try:
                service = await self._service()
            except TuwenError as error:
                _log.warning("cannot open the collection: %s", error)
                said.append(message_of(error, WORDS[address.language]))
            html, status = await response_of(service, address, messages=said, long_text=long_text)
            if service is None or not service.replaced:
                break
            if self._opened is service:
                self._opened = None
                self._retired.append(service)
        return HTMLResponse(html, status, {"cache-control": "no-store"})

    async def _service(self) -> Service:
        """Return the service. The first request opens it; after a failure, the next request tries again."""
        options = self._options
        async with self._opening:
            if self._opened is None:
                async with AsyncExitStack() as unless_opened:
                    client = AsyncClient(
                        options.url,
                        model=options.model,
                        timeout=options.timeout,
                        tls=options.tls,
                        headers=options.headers,
                    )
                    unless_opened.push_async_callback(client.close)
                    card = await client.model_card()
                    collection = await AsyncCollection.open(options.collection, client, store=options.store)
                    unless_opened.push_async_callback(collection.close)
                    path, space = options.threshold, collection.space
                    threshold = await asyncio.to_thread(threshold_of, path, space.fingerprint) if path else None
                    unless_opened.pop_all()
                self._opened = Service(
                    client,
                    collection,
                    card,
                    options.upload_mib,
                    self._uploads,
                    Suggestions(client, collection, options.examples),
                    threshold,
                    tuple(folder.resolve() for folder in options.folders),
                )
            return self._opened


def _is_own_form(request: Request) -> bool:
    """Return whether a form comes from this page. A page of another site could send a form, too."""
    origin = request.headers.get("origin")
    if "sec-fetch-site" in request.headers:
        return request.headers["sec-fetch-site"] in ("same-origin", "none")
    return origin is None or origin.partition("://")[2] == request.url.netloc


def _preview(data: bytes) -> str:
    return describe(data, source="", name="", version="", metadata={}).thumbnail_url
