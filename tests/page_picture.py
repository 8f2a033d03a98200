"""Take the first picture of the README: a screenshot of the page that `make page` serves, in a real browser.

Run it with ``python -m tests.page_picture http://127.0.0.1:8080 build/demo/page.png``.
"""

from __future__ import annotations

import sys

from tests.support.web_page import open_browser

QUERY = "红色的水果"


def main(url: str, output: str) -> None:
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1100, "height": 640})
        page.goto(f"{url}/?q={QUERY}")
        page.locator(".tile").first.wait_for()
        page.wait_for_load_state("networkidle")
        page.screenshot(path=output)


if __name__ == "__main__":
    main(*sys.argv[1:])
