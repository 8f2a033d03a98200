"""`--precision auto` on machines of every kind."""

from __future__ import annotations

import pytest
import torch

from tuwen_build.hardware import choose_precision


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One without GPU, AMX or AVX-512."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return monkeypatch


@pytest.mark.usefixtures("machine")
def test_an_old_cpu_gets_fp32() -> None:
    assert choose_precision().precision == "fp32"


@pytest.mark.parametrize(
    ("question", "units"), [("_is_amx_tile_supported", "AMX"), ("_is_avx512_bf16_supported", "AVX-512 BF16")]
)
def test_a_cpu_with_bf16_gets_bf16(machine: pytest.MonkeyPatch, question: str, units: str) -> None:
    machine.setattr(torch.cpu, question, lambda: True)
    choice = choose_precision()
    assert choice.precision == "bf16"
    assert units in choice.reason


@pytest.mark.parametrize(("capability", "precision"), [((6, 1), "fp32"), ((7, 0), "fp16"), ((9, 0), "fp16")])
def test_a_gpu_gets_fp16_if_it_has_tensor_cores(
    machine: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    machine.setattr(torch.cuda, "is_available", lambda: True)
    machine.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    machine.setattr(torch.cuda, "get_device_capability", lambda: capability)
    choice = choose_precision()
    assert choice.precision == precision
    assert choice.reason.startswith("Some GPU has ")
