"""A search service with FastAPI that finds pictures of a folder by words, by a picture, or by both."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import fastapi
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from tuwen import AsyncClient, InvalidItemsError, ServerError
from tuwen_search import AsyncCollection, Query, QueryError, Results, StoreError


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect to the server once, index new pictures of the folder, and close the connection at shutdown."""
    url, folder = os.environ.get("TUWEN_URL", "localhost:8001"), os.environ["PICTURES"]
    async with (
        AsyncClient(url, timeout=10) as clip,
        await AsyncCollection.open("service", clip, store=os.environ.get("STORE"), create=True) as pictures,
    ):
        report = await pictures.add(folder)
        print(f"{report.added} pictures added, {report.unchanged} unchanged, {len(report.failures)} refused")
        app.state.pictures = pictures
        yield


app = FastAPI(title="Picture search", lifespan=lifespan)
Limit = Annotated[int, fastapi.Query(ge=1, le=100)]


@app.exception_handler(QueryError)
@app.exception_handler(InvalidItemsError)
async def refuse(_: Request, error: Exception) -> JSONResponse:
    """Respond with 422, because the query or the picture is invalid. A retry cannot help."""
    return JSONResponse({"detail": str(error)}, status_code=422)


@app.exception_handler(ServerError)
@app.exception_handler(StoreError)
async def fail(_: Request, error: ServerError | StoreError) -> JSONResponse:
    """Respond with 503 if a retry can help, else with 502."""
    return JSONResponse({"detail": str(error)}, status_code=503 if error.retryable else 502)


@app.get("/search")
async def search_by_words(text: str, limit: Limit = 10) -> list[dict[str, object]]:
    """Return the pictures that match words best."""
    return listed(await app.state.pictures.search(Query(text), limit=limit))


@app.post("/search")
async def search_by_picture(request: Request, text: str = "", limit: Limit = 10) -> list[dict[str, object]]:
    """Return the pictures that are most similar to the picture in the body and, if words are given, match the words."""
    query = Query(text, image=await request.body())
    return listed(await app.state.pictures.search(query, limit=limit))


@app.get("/thumbnails/{picture_id}")
async def thumbnail(picture_id: str) -> Response:
    """Return the thumbnail of a picture as WebP."""
    picture = await app.state.pictures.get(picture_id)
    if picture is None:
        raise HTTPException(404, f"there is no picture with the ID {picture_id!r}")
    return Response(picture.thumbnail, media_type="image/webp")


def listed(results: Results) -> list[dict[str, object]]:
    """Return the ID, name and score of each hit, as the service sends them."""
    return [{"id": hit.picture.id, "name": hit.picture.name, "score": round(hit.score, 4)} for hit in results.hits]
