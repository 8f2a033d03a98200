"""The server's environment variables: Docker images, Helm chart and guide set the same variables as `tuwen serve`."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.support.paths import ROOT
from tuwen_repository.environment import ALLOCATOR_SETTINGS, OPENMP_SETTINGS, TF32_SETTINGS, gpu_environment

SETTINGS = {**ALLOCATOR_SETTINGS, **OPENMP_SETTINGS, **TF32_SETTINGS}


def test_the_image_sets_the_variables_of_tuwen_serve() -> None:
    recipe = (ROOT / "docker" / "server.Dockerfile").read_text(encoding="utf-8")
    stage = recipe.partition("FROM ${TRITON} AS server")[2].partition("\nFROM ")[0]
    assert SETTINGS.items() <= dict(re.findall(r"^(?:ENV| {3}) (\w+)=(\S+)", stage, re.MULTILINE)).items()


def test_the_command_of_the_guide_sets_the_variables_of_tuwen_serve() -> None:
    guide = (ROOT / "docs" / "guides" / "deploy.md").read_text(encoding="utf-8")
    command = re.findall(r"docker run --rm --gpus all.*?```", guide, re.DOTALL)[0]
    assert SETTINGS.items() <= dict(re.findall(r"-e (\w+)=(\S+)", command)).items()


def test_the_chart_sets_the_variables_of_tuwen_serve() -> None:
    template = (ROOT / "docker" / "kubernetes" / "templates" / "deployment.yaml").read_text(encoding="utf-8")
    lines = [line.strip() for line in template.splitlines()]
    entries = [yaml.safe_load(line)[0] for line in lines if line.startswith("- {name: ") and " value: " in line]
    assert SETTINGS.items() <= {entry["name"]: entry["value"] for entry in entries}.items()


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_only_fp32_depends_on_a_variable_of_the_gpu(precision: str) -> None:
    """Only a repository in fp32 turns TF32 off. Encoders of other precisions do not compute in float32."""
    assert gpu_environment(precision) == {}
    assert gpu_environment("fp32") == TF32_SETTINGS
