"""Pass extreme values to every parameter of the commands that open no collection.

`tests/system/test_extreme_store_options.py` does so for the commands that open a collection.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.extreme_options import (
    COMMANDS,
    PARAMETERS,
    Parameter,
    check_values,
    is_slow,
    material,
    name_of,
    place,
)

__all__ = ["material", "place"]


def test_every_command_has_parameters_to_test() -> None:
    assert {parameter.command for parameter in PARAMETERS} - {""} == COMMANDS.keys()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="the embedded server runs on Linux only")
@pytest.mark.parametrize("parameter", [one for one in PARAMETERS if not is_slow(one)], ids=name_of)
@pytest.mark.filterwarnings("ignore::tuwen.TextTruncatedWarning")
def test_an_extreme_value_is_accepted_or_refused_in_one_sentence(
    place: Path, parameter: Parameter, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place == Path.cwd()
    check_values(parameter, monkeypatch)
