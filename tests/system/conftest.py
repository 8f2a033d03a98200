"""A fixture for tests in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.web_page import chromium, open_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Yield Chromium as a `Browser` of Playwright. Without Playwright or Chromium, the test is skipped."""
    pytest.importorskip("playwright.sync_api", reason="no Playwright")
    if chromium() is None:
        pytest.skip("no Chromium")
    with open_browser() as opened:
        yield opened
