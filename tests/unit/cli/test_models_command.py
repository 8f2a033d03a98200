"""`tuwen models` sends the right calls to the server, and prints the results."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from tests.support.command import tuwen_here
from tuwen_server import ServedModel, models
from tuwen_server.errors import ModelControlError

B16 = ServedModel("b16", "loaded", None, "3dbb", "OFA-Sys/b16")


class Administrator:
    """A fake `ModelAdministrator`, which records its calls and returns fixed models."""

    asked: ClassVar[list[Any]] = []

    def __init__(self, url: str, **settings: Any) -> None:
        self.asked.append((url, settings["key"], settings["timeout"]))

    def __enter__(self) -> Administrator:
        return self

    def __exit__(self, *_: object) -> None:
        self.asked.append("closed")

    def models(self) -> list[ServedModel]:
        return [B16, ServedModel("l14", "unloaded"), ServedModel("shop", "loaded", "b16", "3dbb", "OFA-Sys/b16")]

    def load(self, name: str) -> ServedModel:
        if name != "b16":
            raise ModelControlError(f"cannot load {name!r}")
        return B16

    def unload(self, name: str) -> None:
        self.asked.append(f"unload {name}")

    def alias(self, name: str, target: str) -> ServedModel:
        return ServedModel(name, "loaded", target, "3dbb", "OFA-Sys/b16")


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace the administrator by a fake, and return the list of its calls."""
    monkeypatch.setattr(models, "ModelAdministrator", Administrator)
    monkeypatch.delenv("TUWEN_URL", raising=False)
    monkeypatch.setenv("TUWEN_SERVER_KEY", "key-of-the-environment")
    monkeypatch.setattr(Administrator, "asked", [])
    return Administrator.asked


def test_lists_models_and_aliases(asked: list[Any]) -> None:
    shown = tuwen_here("models", "list", "--url", "clip:8001").stdout
    lines = {line.split()[1]: line for line in shown.splitlines() if line.startswith("│")}
    assert "loaded" in lines["b16"]
    assert "3dbb" in lines["b16"]
    assert "unloaded" in lines["l14"]
    assert "alias of b16, loaded" in lines["shop"]
    assert asked == [("clip:8001", "key-of-the-environment", 60.0), "closed"]


def test_prints_json() -> None:
    found = json.loads(tuwen_here("models", "list", "--json").stdout)
    assert [model["name"] for model in found["models"]] == ["b16", "l14", "shop"]
    assert json.loads(tuwen_here("models", "load", "b16", "--json").stdout)["fingerprint"] == "3dbb"
    assert json.loads(tuwen_here("models", "alias", "shop", "b16", "--json").stdout)["alias_of"] == "b16"


def test_loads_unloads_and_sets_aliases(asked: list[Any]) -> None:
    assert tuwen_here("models", "load", "b16").stdout == "b16: loaded, fingerprint 3dbb\n"
    assert tuwen_here("models", "alias", "shop", "b16").stdout == "shop: alias of b16, loaded, fingerprint 3dbb\n"
    unloaded = tuwen_here("models", "unload", "b16", "--drain-timeout", "7", "--key", "another-key-of-16")
    assert unloaded.stdout == "b16: unloaded\n"
    assert ("localhost:8001", "another-key-of-16", 7.0) in asked


def test_says_why_a_model_was_not_loaded() -> None:
    assert "cannot load 'nope'" in tuwen_here("models", "load", "nope", code=1).stderr
