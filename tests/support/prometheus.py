"""Prometheus and promtool from Debian, which `tests/environments.sh prometheus` fetches, and the chart's rules."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tests.support.paths import ENVIRONMENTS, ROOT
from tuwen_server import ServerOptions

__all__ = ["ALERTS", "DASHBOARD", "EVERY_ALERT", "MONITORING", "Prometheus", "program"]

MONITORING = ROOT / "docker" / "monitoring"
ALERTS = ROOT / "docker" / "kubernetes" / "files" / "alerts.yaml"
DASHBOARD = ROOT / "docker" / "kubernetes" / "files" / "dashboard.json"
EVERY_ALERT: dict[str, Any] = {
    "gpu": {"enabled": True},
    "tls": {"secret": "clip-tls"},
    "autoscaling": {"engine": "keda"},
    "envoy": {"enabled": True},
    "monitoring": {"rules": True},
}
"""The values of the chart with which a release has all alerts."""

_FETCHED = ENVIRONMENTS / "prometheus" / "usr" / "bin"


def program(name: str) -> str | None:
    """Return the path of `prometheus` or `promtool`, or None if it is not installed."""
    return shutil.which(name) or shutil.which(name, path=str(_FETCHED))


class Prometheus:
    """A Prometheus process that scrapes its targets and evaluates its rules twice a second; a context manager.

    Args:
        folder: the folder for the configuration and the data.
        rules: the text of the file with the rules.
    """

    def __init__(self, folder: Path, rules: str) -> None:
        self._folder = folder
        self.port = ServerOptions.on_free_ports().with_ports_resolved().http_port
        (folder / "rules.yaml").write_text(rules, encoding="utf-8")
        self.watch()
        files = [str(folder / "targets.json")]
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(folder / "rules.yaml")],
            "scrape_configs": [
                {
                    "job_name": "tuwen",
                    "file_sd_configs": [{"files": files, "refresh_interval": "500ms"}],
                    "honor_labels": True,
                    "metric_relabel_configs": [
                        {"source_labels": ["__name__"], "regex": "simulated_(up)", "target_label": "__name__"}
                    ],
                }
            ],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")

    def watch(self, *targets: str) -> None:
        """From now on, scrape only these targets, each ``host:port``."""
        targets_file = self._folder / "targets.json"
        targets_file.with_suffix(".new").write_text(json.dumps([{"targets": list(targets)}]), encoding="utf-8")
        targets_file.with_suffix(".new").rename(targets_file)

    def __enter__(self) -> Prometheus:
        binary = program("prometheus")
        assert binary is not None
        self._process = subprocess.Popen(
            [
                binary,
                f"--config.file={self._folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.query("up")
                return self
            except OSError:
                assert time.monotonic() < deadline, "Prometheus did not answer within 30 s"
                time.sleep(0.2)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of an instant query in PromQL."""
        return list(self._get("query", query=expression)["result"])

    def firing(self, **labels: str) -> set[str]:
        """Return the names of the alerts that fire and have the given labels."""
        alerts = [alert["labels"] for alert in self._get("alerts")["alerts"] if alert["state"] == "firing"]
        return {alert["alertname"] for alert in alerts if labels.items() <= alert.items()}

    def _get(self, what: str, **parameters: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            found: dict[str, Any] = json.load(response)["data"]
            return found
