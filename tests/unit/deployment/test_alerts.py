"""The files of alerts and the dashboard: promtool accepts them, and the runbook explains every alert."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.prometheus import ALERTS, DASHBOARD, EVERY_ALERT, MONITORING, program

FILES = (ALERTS, ALERTS.with_name("cluster-alerts.yaml"))
RULES = [
    rule
    for file in FILES
    for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES if "alert" in rule]
PANELS = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]


def promtool(*arguments: object) -> None:
    done = subprocess.run(
        [str(program("promtool")), *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(program("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_the_files() -> None:
    promtool("check", "rules", *FILES)


@pytest.mark.skipif(program("promtool") is None, reason="promtool is not installed")
def test_two_releases_are_judged_apart(tmp_path: Path) -> None:
    """A Prometheus with the rules of two releases judges each release alone.

    In the test data, each alert fires only for the faulty release. No alert fires on a healthy day.
    """
    pytest.importorskip("helm_python", reason="the package of Helm exists for Linux only")
    from tests.support.chart import rendered

    for name in ("clip", "clip-2"):
        spec = rendered(EVERY_ALERT, name)["PrometheusRule"]["spec"]
        assert {rule["alert"] for group in spec["groups"] for rule in group["rules"] if "alert" in rule} == set(NAMES)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    cases = tmp_path / "alerts_test.yaml"
    cases.write_text((MONITORING / "alerts_test.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    promtool("test", "rules", cases)


def test_every_alert_is_explained_and_tested() -> None:
    runbook = (MONITORING / "RUNBOOK.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", runbook, re.MULTILINE) == NAMES
    tests = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(NAMES)
    [silent, _] = tests[0]["promql_expr_test"]  # the healthy day, of which every evaluation counts
    assert 'ALERTS{alertstate="firing"}[12h]' in silent["expr"]
    assert silent["exp_samples"] == []
    for rule in RULES:
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert rule["annotations"]["summary"]
            assert rule["annotations"]["runbook_url"].endswith(f"RUNBOOK.md#{rule['alert'].lower()}")


def test_the_panels_of_the_dashboard_do_not_overlap_and_are_described() -> None:
    taken = set()
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
        assert panel["title"]
        assert panel["description"]
        for target in panel["targets"]:
            assert target["expr"].count('job="tuwen"') == target["expr"].count('release=~"$release"')
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    named = set(re.findall(r"Tuwen\w+", DASHBOARD.read_text(encoding="utf-8"))) - {"Tuwen"}
    assert named <= set(NAMES)
