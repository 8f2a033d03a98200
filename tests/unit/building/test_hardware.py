"""`--precision auto` on machines of every kind."""

from __future__ import annotations

import time

import pytest
import torch

from tuwen_build import hardware
from tuwen_build.hardware import bf16_speedup, choose_precision


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


@pytest.mark.parametrize("question", ["_is_amx_tile_supported", "_is_avx512_bf16_supported"])
@pytest.mark.parametrize(("speedup", "precision"), [(3.14, "bf16"), (1.1, "fp32"), (0.5, "fp32")])
def test_a_cpu_with_bf16_gets_it_if_it_is_faster(
    machine: pytest.MonkeyPatch, question: str, speedup: float, precision: str
) -> None:
    machine.setattr(torch.cpu, question, lambda: True)
    machine.setattr(hardware, "bf16_speedup", lambda: speedup)
    choice = choose_precision()
    assert choice.precision == precision
    assert f"{speedup:.1f} times" in choice.reason


def test_how_fast_bf16_is_gets_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = torch.nn.functional.linear

    def slow_in_bf16(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        time.sleep(0.5 if rows.dtype == torch.bfloat16 else 0.0)
        return linear(rows[:1], weight)

    monkeypatch.setattr(torch.nn.functional, "linear", slow_in_bf16)
    assert bf16_speedup() < 0.5


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
