"""The functions that a request passes, compared with the list in ``docs/architecture.md``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import FrameType

import tuwen
from tests.support.paths import ROOT
from tuwen import Client
from tuwen._grpc import GrpcTransport
from tuwen.testing import FakeTransport

SDK = Path(tuwen.__file__).parent
STEP = re.compile(r"^\| \d+ \| `([\w.]+)` .* \| `(\w+)` \|$", re.MULTILINE)


def steps_of_a_call() -> list[tuple[str, str]]:
    """Return the SDK's functions and their modules, in the order in which a call first enters each function."""
    found: dict[tuple[str, str], None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.parent == SDK:
            owner = frame.f_locals.get("self")
            name = f"{type(owner).__name__}.{frame.f_code.co_name}" if owner is not None else frame.f_code.co_name
            found.setdefault((name, path.stem))

    with Client(transport=FakeTransport()) as clip:
        sys.setprofile(note)
        try:
            clip.embed_images([b"no image"] * 9)  # nine images make two requests, so the call has a window
        except tuwen.InvalidItemsError:
            pass
        finally:
            sys.setprofile(None)
    return list(found)


def test_the_page_lists_the_steps_of_a_call_in_their_order() -> None:
    *listed, last = STEP.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    steps = steps_of_a_call()
    assert [step for step in steps if step in listed] == listed
    assert steps.index(("FakeTransport.send", "testing")) > steps.index(listed[-1])  # stands in for the last step
    assert last == ("GrpcTransport.send", "_grpc")
    assert callable(GrpcTransport.send)


def test_a_request_takes_at_most_twelve_steps() -> None:
    assert len(STEP.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))) <= 12


def test_the_sdk_has_at_most_25_modules() -> None:
    modules = {path.stem for path in SDK.rglob("*.py")} - {"__init__"}
    assert len(modules) <= 25
