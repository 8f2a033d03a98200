"""`tuwen settings` lists every variable with its value and origin, and shows no secret."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.command import tuwen
from tests.support.paths import ROOT
from tuwen_cli.settings import SETTINGS

_INTERNAL = {"TUWEN_LOADTEST_PARENT"}


def test_lists_every_variable_of_the_packages() -> None:
    files = [file for folder in ("client", "build", "loadtest") for file in (ROOT / folder).rglob("tuwen*/**/*.py")]
    read = {name for file in files for name in re.findall(r"\bTUWEN_[A-Z0-9_]+", file.read_text(encoding="utf-8"))}
    assert read - _INTERNAL == {setting.name for setting in SETTINGS if setting.name.startswith("TUWEN_")}


def test_shows_the_value_and_its_origin_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv("TUWEN_URL", "gpu:8001")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setenv("TUWEN_SERVER_KEY", "s3cret")
    shown = tuwen("settings", "--json").stdout
    told = {row["name"]: (row["value"], row["origin"]) for row in json.loads(shown)["settings"]}
    assert told["TUWEN_URL"] == ("gpu:8001", "environment")
    assert told["TUWEN_STORE"] == ("/data/tuwen/collections.db", "default")
    assert told["TUWEN_CA"] == ("", "not set")
    assert told["TUWEN_SERVER_FOLDER"][0] == str(Path("~/.cache/tuwen/server").expanduser())
    monkeypatch.setenv("TUWEN_STORE", "http://me:s3cret@host:19530")
    assert "s3cret" not in shown + tuwen("settings").stdout
