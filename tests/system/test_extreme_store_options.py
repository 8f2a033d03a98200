"""Pass extreme values to every parameter of the commands that open a collection.

`tests/service/test_extreme_options.py` does so for all other commands.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.extreme_options import (
    PARAMETERS,
    Parameter,
    check_values,
    is_slow,
    material,
    name_of,
    place,
)

__all__ = ["material", "place"]


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="the embedded server runs on Linux only")
@pytest.mark.parametrize("parameter", tuple(filter(is_slow, PARAMETERS)), ids=name_of)
@pytest.mark.filterwarnings("ignore::tuwen.TextTruncatedWarning")
def test_an_extreme_value_is_accepted_or_refused_in_one_sentence(
    place: Path, parameter: Parameter, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place == Path.cwd()
    check_values(parameter, monkeypatch)
