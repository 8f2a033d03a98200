"""Take a picture of one figure of a load-test report, in a real browser. The guide to load tests shows such pictures.

Run it with ``python -m tests.report_picture loadtest-report/report.html ramp loadtest/examples/ramp.png``. The second
argument is ``ramp`` for the charts over the load, or ``seconds`` for the charts over time.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.web_page import open_browser

_FIGURES = {"ramp": "Answers per second", "seconds": "Requests, latency"}
"""The beginning of the label of each figure."""


def main(report: str, figure: str, output: str) -> None:
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        page.goto(Path(report).absolute().as_uri())
        page.locator(f'figure[aria-label^="{_FIGURES[figure]}"]').screenshot(path=output)


if __name__ == "__main__":
    main(*sys.argv[1:])
