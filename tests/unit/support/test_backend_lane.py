"""The choice of the PyTorch backend for the tests, the line in pytest's header, and the command for NVIDIA's image."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.support.backend_lane import lane_header, runs_in_lane
from tests.support.paths import ROOT


def test_without_the_variable_the_header_says_what_is_not_tested() -> None:
    for environment in ({}, {"TUWEN_PYTORCH_BACKEND": ""}):
        assert not runs_in_lane(environment)
        assert "not tested: NVIDIA's C++ backend" in lane_header(environment)


def test_the_header_names_the_library_that_is_tested(tmp_path: Path) -> None:
    (tmp_path / "libtriton_pytorch.so").touch()
    environment = {"TUWEN_PYTORCH_BACKEND": str(tmp_path)}
    assert runs_in_lane(environment)
    assert lane_header(environment) == f"pytorch backend: NVIDIA's {tmp_path}/libtriton_pytorch.so"


def test_a_folder_without_the_library_does_not_fall_back_to_our_backend(tmp_path: Path) -> None:
    environment = {"TUWEN_PYTORCH_BACKEND": str(tmp_path)}
    assert runs_in_lane(environment)
    assert "libtriton_pytorch.so is missing" in lane_header(environment)


def test_the_command_of_the_guide_runs_tests_that_exist() -> None:
    script = ROOT / "docker" / "backend_lane.sh"
    named = re.findall(r"tests/[\w/.]+", script.read_text(encoding="utf-8"))
    assert len(named) >= 7
    assert all((ROOT / name).exists() for name in named)
    assert os.access(script, os.X_OK)
    guide = (ROOT / "docs" / "guides" / "deploy.md").read_text(encoding="utf-8")
    assert "bash /source/docker/backend_lane.sh" in guide
    assert "-e TUWEN_PYTORCH_BACKEND=/opt/tritonserver/backends/pytorch" in guide
