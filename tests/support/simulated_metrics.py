"""An exporter of the series in `docker/monitoring/alerts_test.yaml`, which shows a minute of them in each second."""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import yaml

from tests.support.prometheus import MONITORING

__all__ = ["SimulatedMetrics", "alert_cases", "values_of"]

_PART = re.compile(r"(_|-?[0-9.e]+)([+-][0-9.e]+)?x(\d+)")


def alert_cases() -> dict[str, dict[str, Any]]:
    """Return the test cases of the alerts, by name."""
    content = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text(encoding="utf-8"))
    return {case["name"]: case for case in content["tests"]}


def values_of(notation: str) -> list[float | None]:
    """Return the values of a series in promtool's notation, such as ``_x2 0+5x3``. None: the minute has no sample."""
    values: list[float | None] = []
    for part in notation.split():
        found = _PART.fullmatch(part)
        assert found is not None, part
        first, step, count = found[1], float(found[2] or 0), int(found[3])
        if first == "_":
            values += [None] * count
        else:
            values += [float(first) + step * number for number in range(count + 1)]
    return values


class SimulatedMetrics:
    """A web server whose metrics follow simulated time, 60 times as fast as real time; a context manager.

    The metric ``up`` is called ``simulated_up``, because Prometheus writes a metric ``up`` for each target itself.
    """

    def __init__(self) -> None:
        self._series: dict[str, list[float | None]] = {}
        self._start, self._minute = time.monotonic(), 0
        page = self._page

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = page().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        """``host:port`` of the exporter."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def minute(self) -> int:
        """The simulated minute."""
        return self._minute + int(time.monotonic() - self._start)

    def show(self, case: dict[str, Any], minute: int = 0) -> None:
        """Show the series of a test case, starting at the given minute.

        They replace the earlier series of the servers (``job="tuwen"``) with the same metrics. Other series stay.
        """
        added = {one["series"]: values_of(one["values"]) for one in case["input_series"]}
        replaced = {name.partition(",")[0] for name in added if 'job="tuwen"' in name}
        kept = {name: values for name, values in self._series.items() if name.partition(",")[0] not in replaced}
        self._series = {**kept, **added}
        self._start, self._minute = time.monotonic(), minute

    def __enter__(self) -> SimulatedMetrics:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _page(self) -> str:
        minute = self.minute
        shown = {name: values[min(minute, len(values) - 1)] for name, values in list(self._series.items())}
        renamed = {re.sub(r"^up\{", "simulated_up{", name): value for name, value in shown.items()}
        return "".join(f"{name} {value}\n" for name, value in renamed.items() if value is not None)
