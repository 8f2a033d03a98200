"""The saved state of a training: a failed write leaves the earlier state as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tuwen_lab.training._state import TrainingStateError, load_state, save_state


def test_a_full_disk_keeps_the_earlier_state(tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    save_state(state, {"settings": {"seed": 1}, "towers": torch.ones(1 << 16)})
    (tmp_path / "state.part").symlink_to("/dev/full")  # every write fails because the disk is full
    with pytest.raises(TrainingStateError, match="the disk is full; free some space, then run .* with --resume"):
        save_state(state, {"settings": {"seed": 2}, "towers": torch.zeros(1 << 16)})
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    assert load_state(state, {"seed": 1})["towers"].sum() == 1 << 16


def test_without_an_earlier_state_the_training_starts_again(tmp_path: Path) -> None:
    (tmp_path / "state.part").symlink_to("/dev/full")
    with pytest.raises(TrainingStateError, match="then start again"):
        save_state(tmp_path / "state.pt", {"settings": {}})
    assert not list(tmp_path.iterdir())
