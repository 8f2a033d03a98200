"""Options of a build: the precision that ``auto`` chooses, and the text of ``--heads``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuwen import InvalidArgumentError
from tuwen_build import repository
from tuwen_build.hardware import PrecisionChoice
from tuwen_build.options import PRECISIONS, BuildOptions, ReadOptions
from tuwen_options import option_fields


class StoppedError(Exception):
    """An error that ends a build before the export, so that a test can look at the options so far."""


def test_a_build_replaces_auto_by_the_precision_of_this_machine(
    short_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[BuildOptions] = []

    def assemble(_: Path, __: object, options: BuildOptions, **___: object) -> None:
        seen.append(options)
        raise StoppedError

    monkeypatch.setattr(repository, "choose_precision", lambda: PrecisionChoice("bf16", "it is faster"))
    monkeypatch.setattr(repository, "assemble", assemble)
    with pytest.raises(StoppedError):
        repository.build_repository(str(short_checkpoint), tmp_path / "out", BuildOptions(precision="auto"))
    assert [options.encoder_precision for options in seen] == ["bf16"]


def test_auto_is_not_a_precision_of_an_encoder() -> None:
    assert [BuildOptions(precision=precision).encoder_precision for precision in PRECISIONS] == list(PRECISIONS)
    with pytest.raises(InvalidArgumentError, match="got 'auto'"):
        _ = BuildOptions(precision="auto").encoder_precision


@pytest.mark.parametrize("text", ["12", "12,", "12,0", "-1,2", "1,2,3", "１,２", "a,b", "12, 12", ""])
def test_rejects_heads_that_are_not_two_numbers(text: str) -> None:
    [heads] = [field.option for field in option_fields(ReadOptions) if field.name == "heads"]
    assert heads.parse is not None
    assert heads.parse("12,8") == (12, 8)
    with pytest.raises(InvalidArgumentError, match="expected the numbers of attention heads"):
        heads.parse(text)
