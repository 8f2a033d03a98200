"""The search page is tested over HTTP in this process, with a fake model server and a Milvus Lite file."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support.collections import picture
from tuwen import AsyncClient, Client, ServerUnavailableError, Threshold
from tuwen.testing import AsyncFakeTransport, FakeTransport
from tuwen_search import Collection
from tuwen_search.generations import chosen_generations, drop_generations
from tuwen_search.migration import migrate
from tuwen_search.sources import Found, Source
from tuwen_search.store import MilvusStore
from tuwen_search.web import WebOptions

pytest.importorskip("jinja2")
from tuwen_search.web import _routes, _suggestions

COUNT = 30


class Visitor:
    """A browser without scripts, which sends requests to the page in this process."""

    def __init__(self, page: Any) -> None:
        self._page = page
        self._loop = asyncio.new_event_loop()
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(page), base_url="http://localhost")

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self._loop.run_until_complete(self._http.get(path, headers=headers))

    def upload(self, data: bytes, name: str = "a.png", headers: dict[str, str] | None = None, **fields: str) -> Any:
        sent = self._http.post("/uploads", data=fields, files={"file": (name, data)}, headers=headers)
        return self._loop.run_until_complete(sent)

    def upload_at_once(self, *pictures: bytes) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(self._http.post("/uploads", files={"file": ("a.png", data)}) for data in pictures))

        self._loop.run_until_complete(all_of_them())

    def close(self) -> None:
        self._loop.run_until_complete(self._http.aclose())
        self._loop.close()


@pytest.fixture
def fake() -> FakeTransport:
    return FakeTransport(embedding_dimension=16)


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    folder = tmp_path / "gallery"
    folder.mkdir()
    (folder / "p0.png").write_bytes(picture(0))
    return folder


@pytest.fixture
def visit(
    fake: FakeTransport, store: MilvusStore, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Visitor]]:
    """Yield a function that opens the page with the given fields of `WebOptions`, and returns a `Visitor`."""

    def goods() -> Iterator[Found]:
        for number in range(COUNT):
            page = f"https://shop.example/{number}"
            metadata = {"category": ("shoe", "bag", "hat")[number % 3], "price": number / 2, "page": page}
            name = f"p{number}.png" if number else "<b>0</b>.png"
            yield Found(name, "1", lambda number=number: picture(number), metadata)  # type: ignore[misc]

    if "shop" in store.names():
        store.drop("shop")
    with Client(transport=fake) as client:
        opened = Collection.open("shop", client, store=store, create=True)
        opened.add(Source(str(gallery), goods))
    fake._closed = False
    client_of_page = AsyncClient(transport=AsyncFakeTransport(fake))
    monkeypatch.setattr(_routes, "AsyncClient", lambda *_, **__: client_of_page)
    monkeypatch.setattr(_routes.AsyncCollection, "open", _opening(store))
    browsers: list[Visitor] = []

    def open_page(**options: Any) -> Visitor:
        page = _routes.application(WebOptions("shop", folders=(gallery,), upload_mib=1, **options))
        browsers.append(Visitor(page))
        return browsers[-1]

    yield open_page
    for browser in browsers:
        browser.close()


@pytest.fixture
def visitor(visit: Callable[..., Visitor]) -> Visitor:
    return visit()


def _opening(store: MilvusStore) -> Any:
    from tuwen_search import AsyncCollection

    original = AsyncCollection.open

    async def opened(name: str, client: AsyncClient, **_: Any) -> AsyncCollection:
        return await original(name, client, store=store)

    return opened


def links(html: str, text: str) -> list[str]:
    """Return the addresses of the links whose HTML tag or label contains the given text."""
    found = re.findall(r'<a [^>]*href="([^"]*)"[^>]*>[^<]*', html)
    whole = re.findall(r"<a [^>]*>[^<]*", html)
    return [href.replace("&amp;", "&") for href, link in zip(found, whole, strict=True) if text in link]


def names(html: str) -> list[str]:
    return re.findall('<span class="name">([^<]*)</span>', html)


def test_a_migrated_collection_is_searched_when_the_server_gets_the_new_model(
    visit: Callable[..., Visitor], fake: FakeTransport, store: MilvusStore, gallery: Path, monkeypatch: Any
) -> None:
    """A page that stays open finds the new vectors after a migration.

    The new model's server replaces the old one behind the same address.
    """
    monkeypatch.setattr(_routes, "AsyncClient", lambda *_, **__: AsyncClient(transport=AsyncFakeTransport(fake)))
    (gallery / "p1.png").write_bytes(picture(1))
    visitor = visit()
    store.drop("shop")
    with Client(transport=FakeTransport(embedding_dimension=16)) as before:
        Collection.open("shop", before, store=store, create=True).add(gallery)
    assert len(names(visitor.get("/?q=鞋").text)) == 2
    new = FakeTransport(embedding_dimension=24, fingerprint="b" * 32)
    with Client(transport=new) as after:
        assert migrate(store, "shop", after).switched
    assert len(names(visitor.get("/?q=帽子").text)) == 2  # the server still has the old model
    fake.card = new.card
    response = visitor.get("/?q=包")
    assert (response.status_code, len(names(response.text))) == (200, 2)
    drop_generations(store, chosen_generations(store, "shop", "0" * 32))
    assert len(names(visitor.get("/?q=猫").text)) == 2
    assert len(names(visit().get("/").text)) == 2
    drop_generations(store, chosen_generations(store, "shop"))


def test_a_first_visit_offers_pictures_and_subjects(visitor: Visitor) -> None:
    response = visitor.get("/")
    assert response.status_code == 200
    assert '<html lang="zh-CN">' in response.text
    assert "30 张图片" in response.text
    assert len(names(response.text)) == 18
    suggestions = re.search('<div class="suggestions">(.*?)</div>', response.text, re.S)
    assert suggestions is not None
    assert suggestions.group(1).count("<a ") == 6
    assert '<html lang="en">' in visitor.get("/?language=en").text


def test_pages_have_numbers_and_a_total(visitor: Visitor) -> None:
    first = visitor.get("/?q=猫").text
    assert "全部 30 张，按接近程度排列 · 第 1–24 张" in first
    [following] = links(first, "下一页")
    second = visitor.get(following).text
    assert "全部 30 张，按接近程度排列 · 第 25–30 张" in second
    assert len(set(names(first) + names(second))) == 30
    assert visitor.get("/?q=猫&page=683").status_code == 400


def test_the_address_keeps_the_query_in_every_link_and_field(visitor: Visitor) -> None:
    asked = "/?q=猫&without=狗，鸟&f.category=shoe&score=-0.9&page=1"
    html = visitor.get(asked).text
    [other] = links(html, 'id="language"')
    query = parse_qs(urlsplit(other).query)
    assert query["q"] == ["猫"]
    assert query["without"] == ["狗", "鸟"]
    assert query["f.category"] == ["shoe"]
    assert query["score"] == ["-0.9"]
    assert query["language"] == ["en"]
    [removed] = links(html, 'aria-label="移除：不要 狗"')
    assert parse_qs(urlsplit(removed).query)["without"] == ["鸟"]
    assert '<input type="hidden" name="without" value="鸟">' in html
    assert 'value="shoe" checked' in html


def test_filters_and_a_lowest_score_leave_pictures_out(visitor: Visitor) -> None:
    assert "共 10 张" in visitor.get("/?q=猫&f.category=shoe").text
    assert "共 20 张" in visitor.get("/?q=猫&f.category=shoe&f.category=bag").text
    assert "共 11 张" in visitor.get("/?q=猫&min.price=5&max.price=10").text
    assert 'name="max.price" value="10"' in visitor.get("/?q=猫&min.price=5&max.price=10").text
    nothing = visitor.get("/?q=猫&score=0.99").text
    assert "至少需要 0.99 分" in nothing
    [everything] = links(nothing, "显示低于 0.99 分的图片")
    assert "全部 30 张" in visitor.get(everything).text
    lost = visitor.get("/?q=猫&f.category=boat").text
    assert "筛选条件在图库中已不存在" in lost


def test_weak_pictures_are_hidden_by_a_calibrated_threshold(
    visit: Callable[..., Visitor], fake: FakeTransport, tmp_path: Path
) -> None:
    file = tmp_path / "shop.json"
    scores = sorted(map(float, re.findall(r"分数 (-?0\.\d+)</span></div>", visit().get("/?q=猫").text)))
    Threshold(("猫",), scores[-3] - 0.0005, fake.card.fingerprint).save(file)
    page = visit(threshold=file)
    html = page.get("/?q=猫").text
    assert len(names(html)) == 3
    assert "第 1–3 张，共 3 张" in html
    assert "27 张图片不到" in html
    [everything] = links(html, f"显示低于 {scores[-3] - 0.0005:.2f} 分的图片")
    shown = page.get(everything).text
    assert "全部 30 张" in shown
    assert "没有显示" not in shown
    [weak] = links(shown, "移除：显示所有分数")
    assert "共 3 张" in page.get(weak).text
    assert "全部 30 张" in page.get("/?q=猫&without=狗").text  # scores of searches by a picture are on another scale
    assert len(names(page.get("/").text)) == 18
    Threshold(("猫",), 0.999, fake.card.fingerprint).save(file)
    nothing = visit(threshold=file).get("/?q=猫&language=en").text
    assert "Nothing fits: the best picture has a score of" in nothing
    assert links(nothing, "Show pictures below 1.00")
    assert '<div class="suggestions">' in nothing
    Threshold(("猫",), 0.3, "1" * 32).save(file)
    assert visit(threshold=file).get("/?q=猫").status_code == 503


def test_without_a_calibration_a_search_shows_all_pictures_and_says_so(visitor: Visitor) -> None:
    """Without a calibrated threshold, no picture is hidden. A guess would be wrong, as scores depend on the model."""
    html = visitor.get("/?q=猫&language=en").text
    assert "All 30 pictures, closest first" in html
    assert "No lowest score is set" in html
    assert re.search('name="all" value="1" form="search" checked', html)
    chosen = visitor.get("/?q=猫&score=-0.2&language=en").text
    assert "No lowest score is set" not in chosen
    assert not re.search('name="all" value="1" form="search" checked', chosen)
    for everything in ("/?q=猫&all=1&score=0.30", "/?q=猫&score=-1"):
        html = visitor.get(everything).text
        assert "全部 30 张" in html
        assert 'class="chip filter"' not in html
    assert 'id="least"' not in visitor.get("/").text  # without a search, there are no scores


def test_a_calibrated_lowest_score_says_where_it_comes_from(
    visit: Callable[..., Visitor], fake: FakeTransport, tmp_path: Path
) -> None:
    file = tmp_path / "shop.json"
    Threshold(("一双鞋", "鞋"), 0.0541, fake.card.fingerprint).save(file)
    page = visit(threshold=file)
    html = page.get("/?q=猫&language=en").text
    assert "0.05 comes from a calibration with pictures that were judged for “一双鞋”, “鞋”." in html
    assert 'data-default="0.05"' in html
    default = page.get("/?q=猫&score=0.05&language=en").text  # a browser without scripts sends these fields
    assert 'class="chip filter"' not in default
    assert page.get("/?q=猫&score=0.1&language=en").text.count("gave 0.05") == 1
    everything = page.get("/?q=猫&all=1&score=0.05&language=en").text
    assert "All 30 pictures" in everything
    assert "All scores shown" in everything
    assert "No lowest score is set" in page.get("/?q=猫&without=狗&language=en").text


@pytest.mark.parametrize(
    ("path", "action", "wanted"),
    [
        ("/?q=猫&f.category=boat&f.category=shoe", "Clear filters", "All 30"),
        ("/?q=猫&without=猫", "Remove the unwanted phrase", "All 30"),
        (f"/?q=猫&picture={'0' * 32}", "Search by words only", "All 30"),
        (f"/?picture={'0' * 32}", "Remove the picture", "Some pictures"),
        (f"/?q=猫&like={'0' * 32}", "Search by words only", "All 30"),
        ("/?q=猫&page=683", "First page", "1–24"),
        (f"/?q=猫&open={'0' * 32}", "Back to the results", "All 30"),
    ],
)
def test_a_message_offers_what_mends_its_cause(visitor: Visitor, path: str, action: str, wanted: str) -> None:
    html = visitor.get(f"{path}&language=en").text
    [message] = re.findall('<div class="message">(.*?)</div>', html, re.S)
    [href] = links(message, f">{action}")
    mended = visitor.get(href)
    assert mended.status_code == 200
    assert wanted in mended.text
    assert '<div class="message">' not in mended.text


def test_messages_about_uploads_and_servers_offer_another_try(visitor: Visitor, fake: FakeTransport) -> None:
    for data in (b"", bytes((1 << 20) + 1)):
        assert '<label class="button primary" for="file">' in visitor.upload(data, language="en").text
    fake._fail_with, fake._fail_times = ServerUnavailableError("away"), None
    failed = visitor.get("/?q=没有人问过的&language=en")
    assert failed.status_code == 503
    [again] = links(failed.text, ">Try again now")
    fake._fail_with = None
    assert "All 30" in visitor.get(again).text


def test_buttons_without_a_result_name_what_they_remove(visitor: Visitor) -> None:
    weak = visitor.get("/?q=猫&score=0.99&language=en").text
    [everything] = links(weak, 'class="button primary" href')
    assert "All 30" in visitor.get(everything).text
    narrow = visitor.get("/?f.category=shoe&min.price=99&language=en").text
    [cleared] = links(narrow.partition('<p class="ways">')[2], "Clear filters")
    assert "f.category" not in cleared
    both = visitor.get("/?q=猫&score=0.99&min.price=5&language=en").text.partition('<p class="ways">')[2]
    [without_price] = links(both, "Remove “price ≥ 5”")
    assert "score=0.99" in without_price
    assert "price" not in without_price
    assert links(both, "Show pictures below 0.99")
    [nothing_left] = links(both, "Clear everything")
    assert not {"score", "min.price"} & parse_qs(urlsplit(nothing_left).query).keys()
    [of_panel] = links(visitor.get("/?q=猫&score=-0.2&language=en").text, "Remove the lowest score")
    assert "score" not in of_panel


def test_the_badge_of_the_filters_counts_a_chosen_score(visitor: Visitor) -> None:
    assert "筛选 (2)<" in visitor.get("/?q=猫&score=-0.2&f.category=shoe").text
    assert "筛选<" in visitor.get("/?q=猫&score=-1").text


def test_counts_of_values_say_that_they_ignore_the_lowest_score(visitor: Visitor) -> None:
    assert "包括低于最低分数的图片" in visitor.get("/?q=猫&score=-0.2").text
    assert "包括低于最低分数的图片" not in visitor.get("/?q=猫").text


def test_the_slider_of_the_lowest_score_ends_at_the_best_score(visitor: Visitor) -> None:
    html = visitor.get("/?q=猫").text
    best = max(float(score) for score in re.findall(r"分数 (-?0\.\d+)</span></div>", html))
    [end] = re.findall(r'id="least-score"[^>]* max="([^"]*)"', html)
    assert 0 <= best - float(end) <= 0.0105  # the page shows the best score with three digits
    [chosen] = re.findall(r'id="least-score"[^>]* max="([^"]*)"', visitor.get("/?q=猫&score=0.95").text)
    assert float(chosen) == 0.95  # the slider can show the chosen score


def test_says_how_many_pictures_a_lowest_score_hides(visitor: Visitor) -> None:
    html = visitor.get("/?q=猫&score=-0.2&language=en").text
    [hidden] = re.findall(r"Hidden, with a score below -0.20: (\d+) picture", html)
    assert 0 < int(hidden) == COUNT - len(names(html) + names(visitor.get("/?q=猫&score=-0.2&page=2").text))
    assert "score=" not in links(html, "Show pictures below -0.20")[0]
    assert "Hidden" not in visitor.get("/?q=猫&score=-1&language=en").text


def test_values_are_counted_under_the_filters_of_other_fields(visitor: Visitor) -> None:
    def counted(path: str) -> list[str]:
        choices = re.findall(r'name="f.category"[^>]*> (\w+) <span class="hint">([^<]*)', visitor.get(path).text)
        return [" ".join(choice) for choice in sorted(choices)]

    assert counted("/") == ["bag 10", "hat 10", "shoe 10"]
    assert counted("/?q=猫&f.category=shoe&max.price=4.5") == ["bag 3", "hat 3", "shoe 4"]
    assert '<span class="hint">0 – 14.5</span>' in visitor.get("/").text
    assert '<span class="hint">1 – 14.5</span>' in visitor.get("/?f.category=hat").text


def test_filters_alone_show_the_pictures_that_fit(visitor: Visitor) -> None:
    assert "第 1–10 张，共 10 张" in visitor.get("/?f.category=shoe").text
    first, second = (
        visitor.get(f"/?f.category=shoe&f.category=bag&f.category=hat&page={page}").text for page in (1, 2)
    )
    assert "第 25–30 张，共 30 张" in second
    assert len(set(names(first) + names(second))) == COUNT
    assert "没有找到图片" in visitor.get("/?f.category=shoe&min.price=99").text
    assert visitor.get("/?f.category=shoe&page=683").status_code == 400
    assert "图库中的一些图片" in visitor.get("/?f.category=boat").text


def test_a_picture_that_was_sent_stays_in_the_address(visitor: Visitor) -> None:
    response = visitor.upload(picture(7), "鲸鱼.png", q="猫", language="en")
    assert response.status_code == 303
    address = response.headers["location"]
    for _ in range(2):  # a reload
        html = visitor.get(address).text
        assert len(names(html)) == 24
        assert '<img src="data:image/webp;base64,' in html
        assert "鲸鱼.png" in html
        assert 'id="weight"' in html
    [removed] = links(html, 'aria-label="Remove: 鲸鱼.png"')
    assert "picture" not in parse_qs(urlsplit(removed).query)


def test_a_lost_query_picture_can_be_replaced_and_is_marked(visitor: Visitor) -> None:
    lost = visitor.get(f"/?q=猫&picture={'0' * 32}&language=en")
    assert lost.status_code == 410
    [message] = re.findall('<div class="message">(.*?)</div>', lost.text, re.S)
    assert "no longer on the server" in message
    assert '<label class="button primary" for="file">Choose a picture</label>' in message
    assert "Dismiss" not in message  # without the message, the page would be empty
    assert '<li class="chip missing"><span>Your picture (missing)</span>' in lost.text
    similar = visitor.get(f"/?like={'0' * 32}&language=en").text
    assert '<li class="chip missing"><span>Query picture (missing)</span>' in similar
    assert "Dismiss" in visitor.get(f"/?q={'长' * 100}&language=en").text


def test_a_picture_finds_itself(visitor: Visitor) -> None:
    html = visitor.get(visitor.upload(picture(7)).headers["location"]).text
    assert names(html)[0] == "p7.png"
    first, second = re.findall('<li class="tile">(.*?)</li>', html, re.S)[:2]
    assert '<span class="badge">你的图片</span>' in first
    assert "badge" not in second
    similar = links(html, "找相似的: p7.png")[0]
    found = visitor.get(similar).text
    assert names(found)[0] == "p7.png"
    assert found.count('<span class="badge">查询图片</span>') == 1


def test_bad_uploads_give_messages(visitor: Visitor) -> None:
    bad = visitor.get(visitor.upload(b"no picture").headers["location"])
    assert bad.status_code == 400
    assert "不是可以读取的图片" in bad.text
    assert visitor.upload(b"").status_code == 400
    assert visitor.upload(bytes((1 << 20) + 1)).status_code == 413
    assert visitor.upload(bytes(2 << 20)).status_code == 413


def test_refuses_forms_of_other_sites(visitor: Visitor) -> None:
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert visitor.upload(picture(1), headers=headers).status_code == 403
    for headers in ({"origin": "http://localhost"}, {"sec-fetch-site": "same-origin"}):
        assert visitor.upload(picture(1), headers=headers).status_code == 303


def test_decodes_the_uploads_of_all_visitors_one_at_a_time(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, lock, second = 0, 0, threading.Lock(), threading.Event()

    def preview(_: bytes) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running > 1:
                second.set()
        second.wait(0.05)  # gives another thread time to begin
        with lock:
            running -= 1
        return ""

    monkeypatch.setattr(_routes, "_preview", preview)
    visitor.upload_at_once(*(picture(number) for number in range(6)))
    assert most == 1


def test_an_open_picture_tells_everything_about_it(visitor: Visitor) -> None:
    html = visitor.get("/?q=猫&without=狗&open=first&language=en").text
    [dialog] = re.findall(r"<dialog [^>]* open>.*?</dialog>", html, re.S)
    assert "Result 1 of 30" in dialog
    assert "shop.example" in dialog
    assert 'rel="noopener noreferrer"' in dialog
    assert re.search(r'<th scope="row">Without 狗</th><td>-0.50</td><td>-?0\.\d{3}</td>', dialog)
    following = links(dialog, 'rel="next"')[0]
    assert "Result 2" in re.findall(r"<dialog [^>]* open>.*?</dialog>", visitor.get(following).text, re.S)[0]
    last = visitor.get("/?q=猫&open=last").text
    [crossing] = [link for link in links(last, 'rel="next"') if "page=2" in link and "open=first" in link]
    assert "第 25 张，共 30 张" in re.findall(r"<dialog [^>]* open>.*?</dialog>", visitor.get(crossing).text, re.S)[0]
    assert visitor.get(f"/?q=猫&open={'0' * 32}").status_code == 410


def test_labels_are_compared_if_there_are_two(visitor: Visitor) -> None:
    html = visitor.get("/?q=猫&open=first&labels=猫，狗").text
    assert len(re.findall("<progress ", html)) == 2
    assert "其余" not in html
    many = visitor.get("/?q=猫&open=first&labels=猫，狗，鸟，花，人，山，海").text
    shown = [float(value) for value in re.findall(r'<progress max="1" value="([^"]*)"', many)]
    [rest] = re.findall(r"其余 2 个：(\d+)%", many)
    assert abs((1 - sum(shown)) * 100 - int(rest)) < 1
    one = visitor.get("/?q=猫&open=first&labels=猫")
    assert "至少给出两个标签" in one.text
    assert "<progress" not in one.text


def test_long_texts_are_reported(visitor: Visitor) -> None:
    assert "太长，模型只读了开头" in visitor.get(f"/?q={'长' * 100}").text
    assert "只用了前 2,000 个字" in visitor.get(f"/?q={'长' * 2001}").text


def test_contradictions_are_explained(visitor: Visitor) -> None:
    assert "既要出现又不要出现" in visitor.get("/?q=猫&without=猫").text


def test_a_model_server_that_is_away_is_tried_again(visitor: Visitor, fake: FakeTransport) -> None:
    assert visitor.get("/?q=猫").status_code == 200
    fake._fail_with, fake._fail_times = ServerUnavailableError("connect to 10.0.0.7:8001"), None
    response = visitor.get("/?q=没有人问过的&language=en")
    assert response.status_code == 503
    assert "The model server does not answer." in response.text
    assert "data-retry>" in response.text
    assert "10.0.0.7" not in response.text
    fake._fail_with = None
    assert visitor.get("/?q=没有人问过的").status_code == 200


def test_results_name_their_query_for_the_time_when_the_next_query_fails(visitor: Visitor) -> None:
    def earlier(path: str) -> str:
        return re.findall('data-earlier="([^"]*)"', visitor.get(path).text)[0]

    assert earlier("/?q=猫&without=狗") == "这是上次搜索“猫 · 不要 狗”的结果。"
    assert earlier(f"/?q={'长' * 100}&language=en").endswith(f"for “{'长' * 60}…”.")
    assert earlier("/") == "图库中的一些图片"
    assert earlier(f"/?picture={'0' * 32}") == ""


def test_a_model_of_the_other_language_changes_the_texts_of_the_page(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an English page of a model that understands only Chinese, texts to embed are Chinese from the start."""
    monkeypatch.setattr(_suggestions, "understood", lambda *_: "zh")
    first = visitor.get("/?language=en").text
    assert "hardly understands English" in first
    assert 'placeholder="Describe a picture in Chinese"' in first
    found = visitor.get("/?q=cat&language=en").text
    assert 'placeholder="Describe a picture in Chinese"' in found
    assert 'value="猫, 狗, 鸟' in found
    assert "hardly understands English" in visitor.get("/?q=cat&f.category=shoe&min.price=99&language=en").text
    assert "hardly understands" not in visitor.get("/?q=猫&f.category=shoe&min.price=99&language=en").text
    assert 'value="猫, 狗, 鸟' in visitor.get("/?q=猫").text
    assert "几乎不懂" not in visitor.get("/").text


def test_names_and_queries_stay_text_and_paths_stay_secret(visitor: Visitor, gallery: Path) -> None:
    response = visitor.get("/?q=<script>alert(1)</script>&without=<i>&language=en")
    assert "<script>alert" not in response.text
    assert "<b>0</b>" not in response.text
    assert str(gallery.parent) not in response.text
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "style=" not in response.text


def test_originals_are_shown_and_downloaded(visitor: Visitor, gallery: Path) -> None:
    (gallery / "p3.png").write_bytes(picture(3))
    html = visitor.get("/?q=猫").text + visitor.get("/?q=猫&page=2").text
    [shown] = set(re.findall(r'/pictures/([0-9a-f]{32})\?download=1" download="p3.png"', html))
    download = visitor.get(f"/pictures/{shown}?download=1")
    assert download.content == picture(3)
    assert "attachment" in download.headers["content-disposition"]
    assert "content-disposition" not in visitor.get(f"/pictures/{shown}").headers
