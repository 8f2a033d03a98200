"""Tests of the search page in a browser: with a mouse, with a keyboard, on a phone, and without scripts."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.artefacts import Artefacts
from tests.support.repositories import demo_repository
from tests.support.servers import SharedServers
from tests.support.web_page import HTML_NAME, Page, axe_core, served_page

DESKTOP, PHONE = {"width": 1200, "height": 860}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def page(servers: SharedServers, artefacts: Artefacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    server = servers.on(demo_repository(artefacts))
    with served_page(tmp_path_factory.mktemp("web"), server.grpc_url) as served:
        yield served


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for axe-core's reports and screenshots."""
    return tmp_path_factory.mktemp("axe")


@pytest.fixture
def visit(browser: Any, page: Page) -> Iterator[Callable[..., Any]]:
    """Yield a function that opens the page in a tab.

    After the test, check that the page called no other host and that no script failed.
    """
    tabs = []

    def opened(path: str = "/", **options: Any) -> Any:
        tab = browser.new_context(**{"viewport": DESKTOP, **options}).new_page()
        tab.hosts, tab.failed = set(), []
        tab.on("request", lambda request: tab.hosts.add(urllib.parse.urlsplit(request.url).netloc))
        tab.on("pageerror", lambda error: tab.failed.append(str(error)))
        tab.on("console", lambda said: tab.failed.append(said.text) if "Content Security" in said.text else None)
        tab.goto(page.url + path)
        tabs.append(tab)
        return tab

    yield opened
    for tab in tabs:
        assert tab.hosts <= {page.host, ""}
        assert tab.failed == []
        tab.context.close()


def search(tab: Any, text: str) -> None:
    tab.locator("#q").fill(text)
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**q={urllib.parse.quote(text)}*")
    tab.wait_for_selector("body:not([data-busy]) .score")


def names(tab: Any) -> list[str]:
    tab.locator(".score").first.wait_for()
    return [str(name) for name in tab.locator(".tile .name").all_inner_texts()]


def send(tab: Any, path: Path) -> None:
    tab.set_input_files("#file", path)
    tab.locator(".chip.picture").first.wait_for()


def query(tab: Any) -> dict[str, list[str]]:
    return urllib.parse.parse_qs(urllib.parse.urlsplit(tab.url).query)


def test_a_query_shows_the_right_pictures_first(visit: Callable[..., Any]) -> None:
    tab = visit()
    search(tab, "下雨")
    assert names(tab)[:2] == ["下雨.png", "雨伞.png"]
    assert tab.locator("#status").inner_text() == "全部 142 张，按接近程度排列 · 第 1–24 张"
    assert tab.title() == "下雨 – 图文搜索"


def test_back_reload_and_another_language_keep_the_query(visit: Callable[..., Any], page: Page) -> None:
    tab = visit()
    search(tab, "下雨")
    send(tab, page.gallery / "鲸鱼.png")
    tab.locator("#without").fill("船，鱼")
    tab.keyboard.press("Enter")
    tab.locator(".chip.without").nth(1).wait_for()
    found = names(tab)
    tab.locator(".pages a[rel=next]").click()
    tab.locator(".here", has_text="2").wait_for()
    tab.go_back()
    tab.locator(".here", has_text="1").wait_for()
    assert names(tab) == found
    tab.reload()
    assert names(tab) == found
    assert tab.locator("#q").input_value() == "下雨"
    tab.locator("#language").click()
    tab.locator("html[lang=en]").wait_for()
    assert names(tab) == found
    assert query(tab)["without"] == ["船", "鱼"]
    tab.get_by_role("link", name="Remove: 鲸鱼.png").click()
    tab.locator(".chip.picture").wait_for(state="detached")
    assert "picture" not in query(tab)
    for _ in range(2):
        tab.go_back()
    assert "language" not in query(tab) or query(tab)["language"] == ["zh"]


def test_an_uploaded_picture_finds_itself_and_similar_pictures(visit: Callable[..., Any], page: Page) -> None:
    tab = visit()
    send(tab, page.gallery / "鲸鱼.png")
    assert names(tab)[0] == "鲸鱼.png"
    second = names(tab)[1]
    tab.locator(".tile").nth(1).get_by_role("link", name="找相似的").click()
    tab.locator(".tile .name").first.get_by_text(second).wait_for()
    assert "like" in query(tab)


def test_the_slider_weighs_words_against_a_picture(visit: Callable[..., Any], page: Page) -> None:
    tab = visit()
    send(tab, page.gallery / "鲸鱼.png")
    search(tab, "下雨")
    tab.get_by_role("slider").focus()
    tab.keyboard.press("End")
    tab.wait_for_url("**weight=1*")
    tab.locator(".tile .name").first.get_by_text("下雨.png").wait_for()


def test_the_focus_stays_near_the_control_used_by_keyboard(visit: Callable[..., Any]) -> None:
    tab = visit("/?q=下雨&without=船")
    tab.locator(".chip.without a").focus()
    tab.keyboard.press("Enter")
    tab.locator(".chip.without").wait_for(state="detached")
    tab.wait_for_function("document.activeElement.id === 'results'")
    tab.locator("#filter-button").focus()
    tab.keyboard.press("Enter")
    tab.get_by_role("checkbox", name="动物 48").focus()
    tab.keyboard.press("Space")
    tab.keyboard.press("Enter")
    tab.locator(".chip.filter").wait_for()
    tab.wait_for_function("document.activeElement.value === '动物'")  # the panel stays open beside the results
    assert tab.locator("#status").inner_text() == "筛选范围内共 48 张，按接近程度排列 · 第 1–24 张"
    tab.keyboard.press("Escape")
    tab.locator("#filters").wait_for(state="hidden")
    assert tab.evaluate("document.activeElement.id") == "filter-button"
    tab.locator("#q").focus()
    tab.keyboard.press("Tab")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "file"  # the focus order follows the visual order


def test_a_picture_is_opened_labelled_and_closed_by_keyboard(visit: Callable[..., Any]) -> None:
    tab = visit()
    search(tab, "下雨")
    tab.locator(".frame").first.focus()
    tab.keyboard.press("Enter")
    dialog = tab.locator("dialog:modal")
    dialog.wait_for()
    assert "open" in query(tab)
    first = dialog.locator("h2").inner_text()
    tab.keyboard.press("ArrowRight")
    dialog.get_by_text("第 2 张").wait_for()
    assert dialog.locator("h2").inner_text() == names(tab)[1]
    tab.keyboard.press("ArrowLeft")
    dialog.get_by_text("第 1 张").wait_for()
    assert dialog.locator("h2").inner_text() == first
    dialog.get_by_role("button", name="判断").focus()
    tab.keyboard.press("Enter")
    dialog.locator("progress").first.wait_for()
    tab.reload()
    tab.locator("dialog:modal").wait_for()
    tab.keyboard.press("Escape")
    tab.wait_for_url(lambda url: "open=" not in url)
    assert query(tab).keys() == {"q", "language"}
    tab.wait_for_function("document.activeElement.matches('.frame')")
    assert tab.locator("dialog:modal").count() == 0


def test_a_closed_picture_stays_out_of_the_address(visit: Callable[..., Any]) -> None:
    tab = visit("/?q=下雨")  # without the parameter `language`, which all links have
    tab.locator(".frame").first.click()
    dialog = tab.locator("dialog:modal")
    dialog.wait_for()
    tab.reload()
    dialog.wait_for()
    held: list[Any] = []
    tab.route("**labels=*", lambda route: held.append(route))  # noqa: PLW0108 - Playwright takes no built-in
    with tab.expect_request("**labels=*"):
        dialog.get_by_role("button", name="判断").click()
    for way in (lambda: tab.keyboard.press("Escape"), lambda: dialog.get_by_role("link", name="关闭").click()):
        way()
        tab.wait_for_url(lambda url: "open=" not in url)
        tab.wait_for_function("document.activeElement.matches('.frame')")
        tab.locator(".frame").nth(1).click()
        dialog.wait_for()
    tab.go_back()
    with tab.expect_response("**labels=*"):
        held[0].continue_()
    tab.locator(".answers progress").first.wait_for(
        state="attached"
    )  # the response arrived after the dialog was closed
    assert not {"open", "labels"} & query(tab).keys()


def test_a_refused_picture_leaves_an_address_that_can_be_reloaded(visit: Callable[..., Any], tmp_path: Path) -> None:
    tab = visit()
    search(tab, "下雨")
    (tmp_path / "empty.png").write_bytes(b"")
    tab.set_input_files("#file", tmp_path / "empty.png")
    tab.get_by_text("没有收到图片").wait_for()
    assert tab.reload().status == 200
    assert query(tab)["q"] == ["下雨"]


def test_uploading_a_picture_keeps_the_typed_words(visit: Callable[..., Any], page: Page) -> None:
    tab = visit()
    tab.locator("#q").fill("下雨")
    tab.locator("#without").fill("船")
    send(tab, page.gallery / "鲸鱼.png")
    assert (query(tab)["q"], query(tab)["without"]) == (["下雨"], ["船"])


def test_an_original_is_shown_in_its_own_size_and_downloaded(visit: Callable[..., Any], page: Page) -> None:
    tab = visit()
    search(tab, "下雨")
    tab.locator(".frame").first.click()
    picture = tab.locator("dialog:modal .stage img")
    picture.wait_for()
    tab.wait_for_load_state("networkidle")
    width, natural = picture.evaluate("image => [image.width, image.naturalWidth]")
    assert width == natural > 0  # not enlarged
    with tab.expect_download() as waiting:
        tab.locator("dialog:modal").get_by_role("link", name="下载").click()
    assert waiting.value.suggested_filename == "下雨.png"
    assert Path(waiting.value.path()).read_bytes() == (page.gallery / "下雨.png").read_bytes()


def test_a_pending_query_is_shown_and_the_newest_query_wins(visit: Callable[..., Any]) -> None:
    tab = visit()
    search(tab, "下雨")
    held: list[Any] = []
    tab.route(re.compile("q=%E5%A4%AA%E9%98%B3"), lambda route: held.append(route))  # noqa: PLW0108 - Playwright takes no built-in
    tab.locator("#q").fill("太阳")
    tab.keyboard.press("Enter")
    tab.locator("body[data-busy]").wait_for()
    assert tab.locator("#status").inner_text() == "正在搜索…"
    assert tab.locator("#go").get_attribute("aria-disabled") == "true"
    assert tab.locator("#results").get_attribute("aria-busy") == "true"
    assert float(tab.locator(".frame img").first.evaluate("image => getComputedStyle(image).opacity")) < 1
    tab.keyboard.press("Enter")  # the busy button sends no second request
    search(tab, "企鹅")
    assert names(tab)[0] == "企鹅.png"
    assert len(held) == 1
    held[0].abort()


def test_an_unreachable_page_is_retried(visit: Callable[..., Any]) -> None:
    tab = visit("/?language=en")
    search(tab, "下雨")
    tab.context.set_offline(True)
    tab.locator("#q").fill("企鹅")
    tab.keyboard.press("Enter")
    message = tab.locator(".message", has_text="The server of this page cannot be reached.")
    message.wait_for()
    assert "Trying again in" in message.inner_text()
    assert names(tab)[0] == "下雨.png"  # older results stay, dimmed
    assert tab.locator("#results[data-stale]").count() == 1
    assert tab.locator("#status").inner_text() == "These are the results of the earlier search for “下雨”."
    assert float(tab.locator(".caption").first.evaluate("one => getComputedStyle(one).opacity")) < 1
    colours = [
        tab.locator(part).first.evaluate("one => getComputedStyle(one).color") for part in (".name", ".score", ".like")
    ]
    assert len(set(colours)) == 1
    tab.context.set_offline(False)
    tab.locator(".tile .name").first.get_by_text("企鹅.png").wait_for()
    assert message.count() == 0


def test_a_bad_upload_shows_a_message_that_offers_another_choice(
    visit: Callable[..., Any], page: Page, tmp_path: Path
) -> None:
    tab = visit()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    send(tab, tmp_path / "bad.png")
    message = tab.get_by_text("不是可以读取的图片")
    message.wait_for()
    assert tab.get_by_role("button", name="知道了").count() == 0  # nothing else is on the page
    send_again = tab.locator(".message").get_by_text("选择图片")
    with tab.expect_file_chooser() as choosing:
        send_again.click()
    choosing.value.set_files(page.gallery / "鲸鱼.png")
    assert names(tab)[0] == "鲸鱼.png"
    assert tab.locator(".tile").first.locator(".badge").inner_text() == "你的图片"
    assert message.count() == 0
    (tmp_path / "large.png").write_bytes(bytes(2 << 20))
    tab.set_input_files("#file", tmp_path / "large.png")
    too_large = tab.get_by_text("图片太大：最多 1 MiB")
    too_large.wait_for()
    tab.get_by_role("button", name="知道了").click()
    assert too_large.count() == 0


def test_html_in_names_and_queries_stays_text(visit: Callable[..., Any], page: Page) -> None:
    tab = visit()
    send(tab, page.gallery / HTML_NAME)
    tab.locator("#q").fill("<img src=x onerror=document.title='owned'>")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**onerror*")
    tab.wait_for_selector("body:not([data-busy]) .score")
    assert HTML_NAME in names(tab)
    assert tab.locator("img[src=x]").count() == 0
    assert tab.title() != "owned"


def test_everything_works_without_scripts(visit: Callable[..., Any], page: Page) -> None:
    tab = visit(java_script_enabled=False)
    search(tab, "下雨")
    assert names(tab)[:2] == ["下雨.png", "雨伞.png"]
    tab.locator(".frame").first.click()
    dialog = tab.locator("dialog[open]")
    dialog.get_by_role("button", name="判断").click()
    dialog.locator("progress").first.wait_for()
    dialog.get_by_role("link", name="下一张").click()
    dialog.get_by_text("第 2 张").wait_for()
    dialog.get_by_role("link", name="关闭").click()
    tab.set_input_files("#file", page.gallery / "鲸鱼.png")
    tab.locator("#upload button").click()
    tab.locator(".chip.picture").wait_for()
    assert query(tab)["q"] == ["下雨"]


def box(tab: Any, selector: str) -> dict[str, float]:
    found: dict[str, float] = tab.locator(selector).first.bounding_box()
    return found


def test_open_filters_stand_beside_the_results_on_a_wide_window(visit: Callable[..., Any]) -> None:
    tab = visit("/?q=下雨")
    tab.locator("#filter-button").click()
    panel, button = box(tab, "#filters"), box(tab, "#apply")
    assert tab.locator("#apply").is_disabled()  # nothing is changed yet
    assert box(tab, "[name='min.price']")["width"] == box(tab, "[name='max.price']")["width"]
    assert panel["x"] + panel["width"] <= box(tab, ".tile")["x"]
    assert box(tab, "#status")["x"] > panel["x"] + panel["width"]
    assert button["y"] + button["height"] <= DESKTOP["height"]
    tab.get_by_role("checkbox", name="食物 47").check()
    apply = tab.get_by_role("button", name="显示 47 张图片")
    apply.wait_for()
    tab.get_by_role("checkbox", name="食物 47").uncheck()
    assert tab.locator("#apply").is_disabled()
    tab.get_by_role("checkbox", name="食物 47").check()
    apply.click()
    tab.locator(".chip.filter").wait_for()
    assert tab.locator("#status").inner_text() == "筛选范围内共 47 张，按接近程度排列 · 第 1–24 张"
    assert tab.locator("#filters").is_visible()
    assert tab.locator("#filter-button").inner_text() == "筛选 (1)"


def test_open_filters_are_a_sheet_of_full_height_on_a_phone(visit: Callable[..., Any]) -> None:
    tab = visit("/?q=下雨&language=en", viewport=PHONE, has_touch=True)
    tab.locator("#filter-button").tap()
    assert box(tab, "#filters") == {"x": 0, "y": 0, **PHONE}
    button = box(tab, "#apply")
    assert button["y"] + button["height"] <= PHONE["height"]
    tab.get_by_role("checkbox", name="食物 47").check()
    tab.get_by_role("button", name="Show 47 pictures").tap()
    tab.locator("#filters").wait_for(state="hidden")
    tab.locator(".chip.filter").wait_for()
    assert tab.locator("#status").inner_text() == "All 47 pictures that pass the filters, closest first · 1–24"
    tab.locator("#filter-button").tap()
    tab.locator("#filters").get_by_role("button", name="Close").tap()
    tab.locator("#filters").wait_for(state="hidden")


def test_the_lowest_score_has_named_ends_and_is_switched_off_by_a_checkbox(visit: Callable[..., Any]) -> None:
    tab = visit("/?q=下雨&language=en")
    tab.locator("#filter-button").click()
    assert tab.locator(".ends span").all_inner_texts() == ["More results", "Only close ones"]
    everything = tab.get_by_role("checkbox", name="Show all, also weak matches")
    assert everything.is_checked()
    tab.get_by_role("slider").fill("0.3")
    assert not everything.is_checked()
    assert tab.locator("#least output").inner_text() == "0.30"
    tab.locator("#counts-hint", has_text="below the lowest score").wait_for()  # before it is applied
    tab.locator("#apply").click()
    tab.locator(".chip.filter", has_text="Score ≥ 0.3").wait_for()
    assert query(tab)["score"] == ["0.3"]
    assert "No lowest score is set" not in tab.locator("#least-hint").inner_text()
    everything.check()
    tab.get_by_role("button", name="Show 142 pictures").click()
    tab.locator(".chip.filter").wait_for(state="detached")
    assert not {"score", "all"} & query(tab).keys()


def test_margins_are_equal_on_a_phone_and_cards_name_their_link(visit: Callable[..., Any]) -> None:
    tab = visit("/?q=下雨&language=en", viewport=PHONE, has_touch=True)
    for selector in (".line", ".gallery"):
        place = box(tab, selector)
        assert place["x"] == PHONE["width"] - place["x"] - place["width"]
    assert tab.locator(".tile .like").first.inner_text() == "More like this"


def first(tab: Any, _: Page) -> None:
    tab.locator(".suggestions a").first.wait_for()


def found(tab: Any, _: Page) -> None:
    search(tab, "红色的水果")


def mixed(tab: Any, page: Page) -> None:
    search(tab, "海洋")
    send(tab, page.gallery / "鲸鱼.png")
    tab.locator("#without").fill("船，鱼")
    tab.keyboard.press("Enter")
    tab.locator(".chip.without").nth(1).wait_for()


def opened(tab: Any, _: Page) -> None:
    search(tab, "下雨")
    tab.locator(".frame").first.click()
    tab.locator("dialog:modal .why summary").click()
    tab.locator("dialog:modal .classify button").click()
    tab.locator("dialog:modal progress").first.wait_for()


def filters(tab: Any, _: Page) -> None:
    search(tab, "红色的水果")
    tab.locator("#filter-button").click()
    tab.locator("legend", has_text="类别").wait_for()


def browsed(tab: Any, _: Page) -> None:
    tab.goto(f"{tab.url}&f.类别=动物&min.price=20")
    tab.locator(".chip.filter").nth(1).wait_for()
    tab.locator("#filter-button").click()


def hidden(tab: Any, _: Page) -> None:
    tab.goto(f"{tab.url}&q=红色的水果&score=0.2")
    tab.locator("#status a").wait_for()


def nothing_fits(tab: Any, page: Page) -> None:
    filters(tab, page)
    tab.goto(f"{tab.url}&score=0.95")  # the slider ends at the best score
    tab.locator(".ways a").first.wait_for()


def refused(tab: Any, _: Page) -> None:
    tab.goto(f"{tab.url}&picture={'0' * 32}&q={'长' * 99}")


@pytest.mark.parametrize("state", [first, found, hidden, mixed, opened, filters, browsed, nothing_fits, refused])
@pytest.mark.parametrize(
    ("language", "size", "scheme"),
    [("zh", DESKTOP, "light"), ("en", PHONE, "light"), ("zh", PHONE, "dark"), ("en", DESKTOP, "dark")],
)
def test_every_state_is_accessible_and_fits_its_width(
    visit: Callable[..., Any], page: Page, reports: Path, state: Any, language: str, size: dict[str, int], scheme: str
) -> None:
    axe = axe_core()
    if axe is None:
        pytest.skip("no axe-core")
    tab = visit(f"/?language={language}", viewport=size, color_scheme=scheme)
    state(tab, page)
    tab.evaluate(axe)
    report = tab.evaluate("axe.run()")
    named = f"{state.__name__}-{language}-{scheme}-{size['width']}"
    (reports / f"{named}.json").write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")
    tab.screenshot(path=reports / f"{named}.png")
    assert "color-contrast" in {rule["id"] for rule in report["passes"]}
    violations = [(found["id"], [node["html"] for node in found["nodes"]]) for found in report["violations"]]
    assert violations == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_search_on_a_phone_does_not_shift_the_layout(visit: Callable[..., Any]) -> None:
    tab = visit(viewport=PHONE, has_touch=True)
    tab.evaluate(
        """() => {
            window.shifts = 0;
            const add = list => { for (const shift of list.getEntries()) window.shifts += shift.value; };
            new PerformanceObserver(add).observe({type: "layout-shift", buffered: true});
        }"""
    )
    search(tab, "下雨")
    tab.locator(".pages a[rel=next]").click()
    tab.locator(".here", has_text="2").wait_for()
    assert tab.evaluate("window.shifts") < 0.1
