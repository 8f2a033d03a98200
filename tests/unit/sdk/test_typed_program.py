"""The program whose types `make lint` checks. It runs without an error, and calls every method of both clients."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import pytest

from tests import typed_program
from tuwen import AsyncClient, Client


def test_the_program_runs(tmp_path: Path) -> None:
    typed_program.synchronous(tmp_path)
    asyncio.run(typed_program.asynchronous(tmp_path))


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_the_program_calls_every_method(client: type) -> None:
    program = typed_program.synchronous if client is Client else typed_program.asynchronous
    source = inspect.getsource(program)
    methods = [name for name in vars(client) if not name.startswith("_")]
    assert [name for name in methods if f"clip.{name}(" not in source] == []
