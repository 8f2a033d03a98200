"""An error before the start names its cause, and no tritonserver is started."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import tuwen
from tests.support.stand_in import StandIn
from tuwen_repository.errors import DamagedRepositoryError, NotARepositoryError
from tuwen_server import EmbeddedServer, _embedded
from tuwen_server.errors import PortTakenError, ServerStartError, SharedMemoryError, UnsupportedPlatformError

MakeServer = Callable[..., EmbeddedServer]


def test_a_folder_without_a_manifest_is_refused(make_server: MakeServer, stand_in: StandIn, repository: Path) -> None:
    (repository / "manifest.json").unlink()
    with pytest.raises(NotARepositoryError, match="tuwen build CHECKPOINT --output"):
        make_server().start()
    assert stand_in.events() == []


def test_a_manifest_that_no_build_wrote_is_refused(make_server: MakeServer, repository: Path) -> None:
    (repository / "manifest.json").write_text("{}", encoding="utf-8")
    with pytest.raises(NotARepositoryError, match="is not the manifest of a build"):
        make_server().start()


def test_the_command_line_reports_a_refusal_in_one_line(tmp_path: Path) -> None:
    finished = tuwen("serve", str(tmp_path), code=1)
    assert "is not a built repository" in finished.stderr
    assert finished.stdout == ""


def test_damaged_files_are_refused(make_server: MakeServer, stand_in: StandIn, repository: Path) -> None:
    weights = repository / "vision_encoder" / "1" / "model.pt"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1  # Triton itself would serve it
    weights.write_bytes(content)
    (repository / "text_tokenization" / "1" / "vocab.txt").unlink()
    with pytest.raises(DamagedRepositoryError) as caught:
        make_server().start()
    assert "vision_encoder/1/model.pt differs from the built file" in str(caught.value)
    assert "text_tokenization/1/vocab.txt is missing" in str(caught.value)
    assert stand_in.events() == []


def test_changed_files_are_served_if_the_check_is_off(make_server: MakeServer, repository: Path) -> None:
    (repository / "vision_encoder" / "1" / "model.pt").write_bytes(b"changed")
    make_server(check_files=False).start()


def test_a_config_that_the_operator_edited_is_served(make_server: MakeServer, repository: Path) -> None:
    config = repository / "text_encoder" / "config.pbtxt"
    config.write_text(config.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
    make_server().start()


def test_a_taken_port_is_refused(make_server: MakeServer, stand_in: StandIn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = f"cannot listen on 127.0.0.1:{port} for HTTP: Address already in use"
        with pytest.raises(PortTakenError, match=message):
            make_server(http_port=port).start()
    assert stand_in.events() == []


def test_too_little_shared_memory_is_refused(
    make_server: MakeServer, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(64 << 20, 0, 64 << 20))  # type: ignore[attr-defined]
    message = "64 MiB free, but the server's 4 Python processes need 96 MiB; .*--shm-size"
    with pytest.raises(SharedMemoryError, match=message):
        make_server().start()
    assert stand_in.events() == []


def test_a_memory_limit_below_the_need_is_refused(
    make_server: MakeServer, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_embedded, "memory_limit", lambda: 255 << 20)
    message = "limit of this container is 255 MiB, but weights and processes need at least 256 MiB; .*--memory"
    with pytest.raises(UnsupportedPlatformError, match=message):
        make_server().start()
    assert stand_in.events() == []
    monkeypatch.setattr(_embedded, "memory_limit", lambda: 257 << 20)
    make_server().start()


def test_a_temporary_folder_that_cannot_be_written_is_refused(
    make_server: MakeServer, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/dev/null/nowhere")
    with pytest.raises(ServerStartError, match=r"cannot write /dev/null/nowhere.*set TMPDIR to another folder"):
        make_server().start()
    assert stand_in.events() == []
