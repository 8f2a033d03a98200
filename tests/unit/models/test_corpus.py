"""What fuzzing found worth keeping, once more through the cores that see untrusted bytes."""

from __future__ import annotations

import pytest

from tests.faults.fuzz import CORPUS, TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_taken_or_refused(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())
    assert len(files) > 20
    check = TARGETS[name]()
    for file in files:
        check(file.read_bytes())
