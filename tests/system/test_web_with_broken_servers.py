"""Tests of the search page in a browser, with a broken model server or a model server that uses TLS.

A broken model server is down, does not respond, or is another program.
"""

from __future__ import annotations

import ssl
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.artefacts import Artefacts
from tests.support.relay import Behaviour, Relay
from tests.support.repositories import demo_repository
from tests.support.servers import RecordedServer, SharedServers
from tests.support.web_page import Page, served_page

DESKTOP, PHONE = {"width": 1200, "height": 860}, {"width": 390, "height": 844}
TIMEOUT = ("--timeout", "2")


@pytest.fixture(scope="module")
def demo_server(servers: SharedServers, artefacts: Artefacts) -> RecordedServer:
    return servers.on(demo_repository(artefacts))


@pytest.fixture(scope="module")
def relay(demo_server: RecordedServer) -> Iterator[Relay]:
    with Relay(demo_server.grpc_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(relay: Relay, demo_server: RecordedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    root = tmp_path_factory.mktemp("web")
    with served_page(root, demo_server.grpc_url, page_url=relay.url, options=TIMEOUT) as served:
        yield served


def ask(tab: Any, text: str) -> None:
    tab.locator("#q").fill(text)
    tab.keyboard.press("Enter")


def search(tab: Any, text: str) -> None:
    ask(tab, text)
    tab.wait_for_url(f"**q={urllib.parse.quote(text)}*")
    tab.locator(".score").first.wait_for()


@pytest.mark.parametrize(
    ("language", "size", "retrying"), [("zh", DESKTOP, "秒后自动重试"), ("en", PHONE, "Trying again in")]
)
@pytest.mark.parametrize(
    ("behaviour", "name", "messages"),  # different texts, because the page caches the vectors of texts
    [
        ("down", "企鹅", {"zh": "模型服务器没有响应", "en": "The model server does not answer"}),
        ("silent", "太阳", {"zh": "模型服务器没有响应", "en": "The model server does not answer"}),
        ("web", "狮子", {"zh": "请通知管理员", "en": "Tell the operator"}),
    ],
)
def test_the_page_reports_a_broken_model_server_and_recovers_by_itself(
    browser: Any,
    page: Page,
    relay: Relay,
    behaviour: Behaviour,
    name: str,
    messages: dict[str, str],
    language: str,
    size: dict[str, int],
    retrying: str,
) -> None:
    context = browser.new_context(viewport=size)
    tab = context.new_page()
    tab.goto(f"{page.url}/?language={language}")
    search(tab, "下雨")
    older = tab.locator(".tile .name").all_inner_texts()
    text = name if language == "zh" else f"一张{name}的图片"
    relay.behave(behaviour)
    try:
        ask(tab, text)
        message = tab.locator(".message", has_text=messages[language])
        message.wait_for()
        assert retrying in message.inner_text()
        assert relay.url not in tab.content()
        assert tab.locator(".tile .name").all_inner_texts() == older  # the older results stay, dimmed
        assert tab.locator("#results[data-stale]").count() == 1
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert tab.reload().status == 503
        message.wait_for()
        assert tab.locator("#q").input_value() == text
    finally:
        relay.behave("forward")
    tab.locator(".tile .name", has_text=f"{name}.png").first.wait_for(timeout=60_000)
    tab.locator(".message").wait_for(state="detached", timeout=60_000)
    context.close()


def test_the_page_reaches_its_model_server_over_tls(browser: Any, demo_server: RecordedServer, tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")

    def encrypting(authority: Any) -> ssl.SSLContext:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.set_alpn_protocols(["h2"])
        authority.issue_cert("127.0.0.1").configure_cert(tls)
        return tls

    ours, stranger = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(tmp_path / "ca.pem")
    settings = {"TUWEN_CA": str(tmp_path / "ca.pem")}
    (tmp_path / "web").mkdir()
    with (
        Relay(demo_server.grpc_url, encrypting(ours)) as relay,
        served_page(
            tmp_path / "web", demo_server.grpc_url, page_url=relay.url, options=TIMEOUT, settings=settings
        ) as page,
    ):
        context = browser.new_context(viewport=DESKTOP)
        tab = context.new_page()
        tab.goto(page.url)
        search(tab, "企鹅")
        assert tab.locator(".tile .name").first.inner_text() == "企鹅.png"
        relay.behave("forward", encrypting(stranger))
        ask(tab, "一张下雨的图片")  # not a suggested subject, whose vector the page has already
        tab.locator(".message", has_text="证书或权限有误").wait_for()
        relay.behave("forward", encrypting(ours))
        tab.locator(".tile .name", has_text="下雨.png").first.wait_for(timeout=60_000)
        context.close()
