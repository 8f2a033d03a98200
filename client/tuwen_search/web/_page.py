"""The page of one visitor: the query, the results, and the details of a picture."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

from nicegui import events, ui

from tuwen import AsyncClient, InvalidItemsError, ModelCard, TuwenError
from tuwen_search.collection import AsyncCollection
from tuwen_search.query import Hit, Query
from tuwen_search.records import describe
from tuwen_search.web._words import WORDS, Language

__all__ = ["Service", "build_page"]

_PAGE = 24
_LONGEST_TEXT = 500
_MOST_LABELS = 30
_STYLE = """
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 14px; width: 100% }
.tile { border-radius: 10px; overflow: hidden; background: var(--tile); outline-offset: 2px }
.tile .frame { aspect-ratio: 1; display: flex; align-items: center; justify-content: center; cursor: pointer }
.tile img { max-width: 100%; max-height: 100%; object-fit: contain }
.name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; max-width: 100% }
body { --tile: #f4f4f6 } body.body--dark { --tile: #2a2a2e }
.asked { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; width: 100% }
@media (max-width: 600px) { .asked { grid-template-columns: 1fr } }
.uploader.q-uploader { width: 100%; max-height: 40px; border: 1px dashed currentColor }
.uploader .q-uploader__header { background: transparent; color: inherit }
.uploader .q-uploader__header-content { padding: 0 4px 0 12px; min-height: 38px }
.uploader .q-uploader__subtitle, .uploader .q-uploader__list { display: none }
.uploader .q-uploader__title { font-weight: normal; opacity: 0.7 }
"""


@dataclass
class Service:
    """State shared by all browser sessions.

    Attributes:
        client: of the embedding server.
        collection: that is searched.
        card: of the model.
        upload_mib: how large a picture to search with may be.
        examples: texts that are offered.
        previews: held while an upload is decoded, so that the memory of one picture bounds that of all visitors.
    """

    client: AsyncClient
    collection: AsyncCollection
    card: ModelCard
    upload_mib: int
    examples: tuple[str, ...]
    previews: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))


async def build_page(service: Service, language: Language, text: str) -> None:
    """Build the page into the current client of NiceGUI, and search if there is something to search for."""
    page = _Page(service, language)
    page.build(await service.collection.count(), text[:_LONGEST_TEXT])
    if text:
        await page.search()


class _Page:
    def __init__(self, service: Service, language: Language) -> None:
        self._service, self._language, self._words = service, language, WORDS[language]
        self._image: bytes | None = None
        self._like: Hit | None = None
        self._text_weight = 0.5
        self._shown = self._turn = 0

    def build(self, count: int, text: str) -> None:
        """Header, search, gallery and footer."""
        words = self._words
        ui.page_title(words.title)
        ui.add_css(_STYLE)
        ui.dark_mode(None)
        with ui.column().classes("w-full max-w-6xl mx-auto p-2 gap-3"):
            with ui.row().classes("w-full items-baseline justify-between"):
                with ui.row().classes("items-baseline gap-3"):
                    ui.label(words.title).classes("text-2xl font-bold").props("role=heading aria-level=1")
                    ui.label(words.pictures.format(count=count)).classes("text-sm opacity-70")
                other = "en" if self._language == "zh" else "zh"
                ui.link(words.other, f"/?language={other}").classes("text-sm")
            with ui.row().classes("w-full items-center gap-2 no-wrap"):
                self._text = ui.input(placeholder=words.look_for, value=text).classes("grow text-lg")
                self._text.props(f"outlined dense clearable autofocus maxlength={_LONGEST_TEXT} aria-label=text")
                self._text.on("keydown.enter", self.search)
                ui.button(words.search, icon="search", on_click=self.search).props("unelevated aria-label=search")
            with ui.element("div").classes("asked"):
                self._without = ui.input(placeholder=words.without)
                self._without.props(f"outlined dense clearable maxlength={_LONGEST_TEXT} aria-label=without")
                self._without.on("keydown.enter", self.search)
                self._upload = ui.upload(
                    label=words.drop,
                    auto_upload=True,
                    max_files=None,
                    max_file_size=self._service.upload_mib << 20,
                    on_upload=self._uploaded,
                    on_rejected=self._rejected,
                )
                self._upload.props("accept=image/* flat bordered dense").classes("uploader")
            self._asked = ui.row().classes("w-full items-center gap-3")
            with ui.row().classes("gap-2"):
                for example in self._service.examples:
                    ui.chip(example, on_click=lambda example=example: self._example(example)).props("outline clickable")
            self._gallery = ui.element("div").classes("gallery").props("role=list")
            self._nothing = ui.label(words.nothing).classes("opacity-70")
            self._more = ui.button(words.more, on_click=self._next).props("flat").classes("mx-auto")
            ui.separator()
            self._times = ui.label().classes("text-sm opacity-70").props("role=status")
            card = self._service.card
            ui.label(
                words.model.format(
                    checkpoint=card.checkpoint,
                    dimension=card.embedding_dimension,
                    precision=card.precision,
                    fingerprint=card.fingerprint[:8],
                )
            ).classes("text-xs opacity-60 break-all")
        self._nothing.visible = self._more.visible = False

    async def search(self) -> None:
        """Search from the first page."""
        await self._show(0)

    async def _next(self) -> None:
        await self._show(self._shown)

    async def _show(self, offset: int) -> None:
        text = (self._text.value or "").strip()
        if not text and self._image is None and self._like is None:
            return
        self._turn += 1
        turn = self._turn
        query = Query(
            text,
            image=self._image,
            like=self._like.picture.id if self._like else None,
            text_weight=self._text_weight,
            without=[part for part in [(self._without.value or "").strip()] if part],
        )
        try:
            found = await self._service.collection.search(query, limit=_PAGE, offset=offset)
        except InvalidItemsError as error:
            ui.notify(self._words.no_picture.format(why=error.failures[0].message), type="negative")
            self._forget()
            return
        except TuwenError as error:
            ui.notify(str(error), type="negative", multi_line=True)
            return
        if turn != self._turn:  # something else has been asked for meanwhile
            return
        if offset == 0:
            self._gallery.clear()
        with self._gallery:
            for hit in found.hits:
                self._tile(hit)
        self._shown = offset + len(found.hits)
        self._nothing.visible = self._shown == 0
        self._more.visible = len(found.hits) == _PAGE
        self._times.text = self._words.times.format(
            embed=found.embedding_seconds * 1e3, store=found.store_seconds * 1e3
        )

    def _tile(self, hit: Hit) -> None:
        name = hit.picture.name
        with ui.element("div").classes("tile").props("role=listitem"):
            frame = ui.element("div").classes("frame").props("tabindex=0 role=button")
            frame.on("click", lambda: self._open(hit)).on("keydown.enter", lambda: self._open(hit))
            with frame:
                picture = ui.element("img")
                picture._props.update(src=hit.picture.thumbnail_url, alt=name, loading="lazy")
            with ui.row().classes("w-full items-center justify-between no-wrap px-2 pb-1"):
                with ui.column().classes("gap-0").style("min-width: 0"):
                    ui.label(name.rpartition("/")[2]).classes("text-sm name").tooltip(name)
                    ui.label(f"{hit.score:.3f}").classes("text-xs opacity-70")
                like = ui.button(icon="image_search", on_click=lambda: self._more_like(hit))
                like.props("flat round dense").tooltip(self._words.like_this)
                like._props["aria-label"] = self._words.like_this

    def _open(self, hit: Hit) -> None:
        words, picture = self._words, hit.picture
        with ui.dialog() as dialog, ui.card().classes("w-full max-w-3xl items-stretch"):
            shown = ui.element("img").classes("mx-auto").style("max-width: 100%; max-height: 60vh; object-fit: contain")
            shown._props.update(src=f"/pictures/{picture.id}", alt=picture.name)
            ui.label(picture.name).classes("font-bold break-all")
            size = f"{picture.width} × {picture.height}, {picture.file_size / 1024:.0f} KiB" if picture.width else ""
            parts = ", ".join(f"{name}: {cosine:.3f}" for name, cosine in hit.parts.items())
            ui.label(f"{words.score} {hit.score:.3f} ({parts})").classes("text-sm break-all")
            ui.label(size).classes("text-sm opacity-70")
            with ui.row().classes("w-full items-center gap-2 no-wrap"):
                labels = ui.input(words.labels, value=words.labels_given).classes("grow")
                labels.props(f"dense outlined maxlength={_LONGEST_TEXT}")
                tell = ui.button(words.classify).props("flat")
            bars = ui.column().classes("w-full gap-1")
            with ui.row().classes("justify-end"):
                like = ui.button(words.like_this, icon="image_search").props("flat")
                ui.button(icon="close", on_click=dialog.close).props("flat round aria-label=close")

        async def classify() -> None:
            await self._classify(hit, labels.value or "", bars)

        async def more_like() -> None:
            dialog.close()
            await self._more_like(hit)

        labels.on("keydown.enter", classify)
        tell.on_click(classify)
        like.on_click(more_like)
        dialog.on("hide", dialog.delete)
        dialog.open()

    async def _classify(self, hit: Hit, given: str, bars: ui.column) -> None:
        labels = list(dict.fromkeys(part.strip() for part in re.split(r"[,，、;；\n]", given) if part.strip()))
        try:
            shown = await self._service.client.classify(
                [hit.picture.thumbnail], labels[:_MOST_LABELS], templates=self._language
            )
        except TuwenError as error:
            ui.notify(str(error), type="negative", multi_line=True)
            return
        bars.clear()
        [chances] = shown.scores.probabilities
        with bars:
            for chance, label in sorted(zip(chances.tolist(), labels, strict=False), reverse=True)[:5]:
                with ui.row().classes("w-full items-center no-wrap gap-2"):
                    ui.label(label).classes("w-24 name text-sm")
                    ui.linear_progress(chance, show_value=False).classes("grow")
                    ui.label(f"{chance:.0%}").classes("w-12 text-right text-sm")

    async def _more_like(self, hit: Hit) -> None:
        self._image, self._like, self._text.value = None, hit, ""
        self._show_asked(hit.picture.thumbnail_url, hit.picture.name)
        await self.search()

    async def _example(self, text: str) -> None:
        self._forget()
        self._text.value = text
        await self.search()

    async def _uploaded(self, event: events.UploadEventArguments) -> None:
        data = await event.file.read()
        self._upload.reset()
        self._image, self._like = data, None
        async with self._service.previews:
            preview = await asyncio.to_thread(_preview, data)
        self._show_asked(preview, event.file.name)
        await self.search()

    def _rejected(self) -> None:
        ui.notify(self._words.too_large.format(mib=self._service.upload_mib), type="negative")

    def _show_asked(self, url: str, name: str) -> None:
        self._asked.clear()
        with self._asked:
            picture = ui.element("img").style("height: 64px; border-radius: 8px")
            picture._props.update(src=url, alt=name)
            ui.label(name).classes("text-sm name")
            ui.button(icon="close", on_click=self._forget).props("flat round dense aria-label=forget")
            ui.label(self._words.weight).classes("text-sm opacity-70")
            weight = ui.slider(min=0, max=1, step=0.1, value=self._text_weight, on_change=self._weighed)
            weight.classes("w-40").props("aria-label=weight").bind_visibility_from(self._text, "value", bool)

    async def _weighed(self, event: events.ValueChangeEventArguments[float | None]) -> None:
        self._text_weight = 0.5 if event.value is None else event.value
        await self.search()

    def _forget(self) -> None:
        self._image = self._like = None
        self._asked.clear()


def _preview(data: bytes) -> str:
    return describe(data, source="", name="", version="", metadata={}).thumbnail_url
