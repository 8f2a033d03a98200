"""The code that reads untrusted bytes accepts or rejects each input that fuzzing found, and does not crash."""

from __future__ import annotations

import pytest

from tests.faults.targets import CORPUS, TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_fuzzing_findings_are_accepted_or_rejected(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())
    assert len(files) > 20
    check = TARGETS[name]()
    for file in files:
        check(file.read_bytes())
