"""The files of alerts and the dashboard: promtool accepts them, and the runbook explains every alert."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml

from tests.support.prometheus import ALERTS, DASHBOARD, MONITORING, program

RULES = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"][0]["rules"]
NAMES = [rule["alert"] for rule in RULES if "alert" in rule]
PANELS = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]


@pytest.mark.skipif(program("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("command", [("check", "rules", ALERTS), ("test", "rules", MONITORING / "alerts_test.yaml")])
def test_promtool_accepts_the_rules_and_their_tests(command: tuple[object, ...]) -> None:
    done = subprocess.run(
        [str(program("promtool")), *map(str, command)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_explained_and_tested() -> None:
    runbook = (MONITORING / "RUNBOOK.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", runbook, re.MULTILINE) == NAMES
    tests = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for wanted in (bool, lambda expected: not expected):  # fires in one case, is silent in another
        assert {case["alertname"] for case in cases if wanted(case["exp_alerts"])} >= set(NAMES)
    for rule in RULES:
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert rule["annotations"]["summary"]


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
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    named = set(re.findall(r"Tuwen\w+", DASHBOARD.read_text(encoding="utf-8"))) - {"Tuwen"}
    assert named <= set(NAMES)
