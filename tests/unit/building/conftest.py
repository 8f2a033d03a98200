"""A checkpoint that is read in milliseconds, for tests of the build step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.artefacts import Artefacts


@pytest.fixture(scope="session")
def short_checkpoint(artefacts: Artefacts) -> Path:
    """Return the smallest Chinese-CLIP checkpoint in the layout of Hugging Face, with a vocabulary of a few tokens.

    Do not change its files.
    """
    from tests.support.repositories import SHORT_VOCABULARY, minimal_checkpoint

    return minimal_checkpoint(artefacts, vocabulary=SHORT_VOCABULARY)
