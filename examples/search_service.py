"""A search service over a folder of pictures, with FastAPI: by words, by a picture, or by both."""

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
    """Connect once, bring the collection up to the folder, and serve until the end."""
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
    """Answer 422: the query or the picture is at fault, so the same request must not be sent again."""
    return JSONResponse({"detail": str(error)}, status_code=422)


@app.exception_handler(ServerError)
@app.exception_handler(StoreError)
async def fail(_: Request, error: ServerError | StoreError) -> JSONResponse:
    """Answer 503 if a later try can help, and 502 if not."""
    return JSONResponse({"detail": str(error)}, status_code=503 if error.retryable else 502)


@app.get("/search")
async def search_by_words(text: str, limit: Limit = 10) -> list[dict[str, object]]:
    """Find pictures by words."""
    return listed(await app.state.pictures.search(Query(text), limit=limit))


@app.post("/search")
async def search_by_picture(request: Request, text: str = "", limit: Limit = 10) -> list[dict[str, object]]:
    """Find pictures that are like the picture in the body, and that fit the words if there are any."""
    query = Query(text, image=await request.body())
    return listed(await app.state.pictures.search(query, limit=limit))


@app.get("/thumbnails/{picture_id}")
async def thumbnail(picture_id: str) -> Response:
    """Return a small WebP picture."""
    picture = await app.state.pictures.get(picture_id)
    if picture is None:
        raise HTTPException(404, "no such picture")
    return Response(picture.thumbnail, media_type="image/webp")


def listed(results: Results) -> list[dict[str, object]]:
    """Return what the service says about each hit."""
    return [{"id": hit.picture.id, "name": hit.picture.name, "score": round(hit.score, 4)} for hit in results.hits]
