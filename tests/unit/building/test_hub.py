"""Reads of checkpoints from the hub: a short error within seconds if the hub does not answer, and use of the cache."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests.support.stand_in_hub import stand_in_hub
from tuwen_build.checkpoints import _hub, _source
from tuwen_build.checkpoints._source import locate
from tuwen_build.errors import CheckpointError

MODEL = "shop/model"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the hub's client use an empty cache and no proxy, and return the folder of the cache."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(
        _source,
        "snapshot_download",
        lambda *names, **options: huggingface_hub.snapshot_download(*names, cache_dir=cache, **options),
    )
    return cache


@pytest.fixture
def silent() -> Iterator[str]:
    """Yield the address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_silent_hub_gives_an_error_of_one_sentence(monkeypatch: pytest.MonkeyPatch, silent: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", silent)
    monkeypatch.setattr(_hub, "_SECONDS", 0.2)
    with pytest.raises(CheckpointError) as caught:
        locate(MODEL)
    message = str(caught.value)
    assert message.startswith(f"{MODEL} is not in the hub's cache, and {silent} ")
    assert "HF_ENDPOINT to a mirror" in message
    assert "\n" not in message


def test_a_slow_lookup_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def slow(*_: object, **__: object) -> None:
        time.sleep(1)
        ended.append(True)

    monkeypatch.setattr(_hub.HfApi, "model_info", slow)
    monkeypatch.setattr(_hub, "_SECONDS", 0.1)
    with pytest.raises(CheckpointError, match="did not answer within"):
        locate(MODEL)
    assert not ended
    [thread] = [thread for thread in _hub.threading.enumerate() if thread.name == "hub"]
    thread.join()


def test_a_closed_port_gives_an_error_of_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    with pytest.raises(CheckpointError, match=r"is not in the hub's cache, and http://127.* cannot be reached \("):
        locate(MODEL)


def test_a_model_that_the_hub_lacks_gives_an_error_of_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with stand_in_hub({}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        with pytest.raises(CheckpointError, match=rf"{hub.url} refused {MODEL}: ") as caught:
            locate(MODEL)
    assert "\n" not in str(caught.value)


def test_the_cache_serves_when_the_hub_is_silent(
    minimal_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    with stand_in_hub({MODEL: minimal_checkpoint}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        address = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        fetched = locate(MODEL)
    monkeypatch.setattr(constants, "ENDPOINT", silent)
    monkeypatch.setattr(_hub, "_SECONDS", 0.2)
    assert locate(MODEL) == fetched
    assert (fetched / "config.json").is_file()


def test_offline_use_reads_the_cache_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=f"{MODEL} is not in the hub's cache, and HF_HUB_OFFLINE is set; "):
        locate(MODEL)
