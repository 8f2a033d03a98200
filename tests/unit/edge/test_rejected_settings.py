"""The edge rejects invalid options, key files and forms, and says what it expected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.edge import EdgeInMemory
from tuwen import InvalidArgumentError
from tuwen_edge import EdgeOptions
from tuwen_edge.errors import EdgeError
from tuwen_edge.forms import FormLimits, read_form
from tuwen_edge.keys import KeyFile


@pytest.mark.parametrize("option", ["aliases", "allowed_hosts", "fetch_hosts", "allowed_origins"])
def test_names_must_not_be_empty(option: str) -> None:
    settings: Any = {option: ("good", "")}
    with pytest.raises(InvalidArgumentError, match=f"{option}: expected names, got an empty text"):
        EdgeOptions(**settings)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"\xff\xfe", "not a text file"),
        (b"alice\n", "line 1: expected 'NAME sha256:HASH'"),
        (b"# nobody\n", "the file has no key"),
    ],
)
def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=f"cannot read the keys in '{file}': {reason}"):
        KeyFile(file)


def test_a_form_needs_a_boundary() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b""

    with pytest.raises(EdgeError, match="no boundary") as caught:
        asyncio.run(read_form(pieces(), "multipart/form-data", FormLimits(1, 1)))
    assert caught.value.status == 400


def test_a_form_of_mt_photos_needs_a_file(edge: EdgeInMemory) -> None:
    answer = edge.post("/clip/img", content=b"--b--\r\n", headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 400
    assert "The form has no field 'file'; send the picture" in answer.text
