"""The precision that `--precision auto` chooses on machines with different processors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tuwen_build import hardware
from tuwen_build.hardware import bf16_speedup, choose_precision, precision_warning
from tuwen_build.options import Precision


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Simulate a machine without GPU, AMX or AVX-512.

    Return the monkeypatch, with which a test adds the missing hardware.
    """
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return monkeypatch


@pytest.mark.usefixtures("machine")
def test_an_old_cpu_gets_fp32() -> None:
    assert choose_precision().precision == "fp32"


@pytest.mark.parametrize("question", ["_is_amx_tile_supported", "_is_avx512_bf16_supported"])
@pytest.mark.parametrize(("speedup", "precision"), [(3.14, "bf16"), (1.1, "fp32"), (0.5, "fp32")])
def test_a_cpu_gets_bf16_if_bf16_is_faster(
    machine: pytest.MonkeyPatch, question: str, speedup: float, precision: str
) -> None:
    machine.setattr(torch.cpu, question, lambda: True)
    machine.setattr(hardware, "bf16_speedup", lambda: speedup)
    choice = choose_precision()
    assert choice.precision == precision
    assert f"{speedup:.1f} times" in choice.reason


def test_the_speed_of_bf16_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, asked = [0.0], []

    def linear(rows: torch.Tensor, _: torch.Tensor) -> None:
        asked.append(rows.dtype)
        first = len(asked) <= 2  # the first product of each type includes the warm-up
        seconds[0] += 100.0 if first else {torch.float32: 6.0, torch.bfloat16: 1.5}[rows.dtype]

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    monkeypatch.setattr(hardware, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))
    assert bf16_speedup() == 4.0
    assert set(asked) == {torch.float32, torch.bfloat16}


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


@pytest.fixture
def driver(machine: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Simulate a machine with NVIDIA's driver and a GPU that PyTorch cannot use. Return the monkeypatch."""
    (tmp_path / "version").touch()
    machine.setattr(hardware, "_NVIDIA_DRIVER", tmp_path / "version")
    return machine


@pytest.mark.parametrize(("cuda", "why"), [(None, "was built without CUDA"), ("13.0", "finds no device")])
def test_says_that_pytorch_cannot_use_the_gpu(driver: pytest.MonkeyPatch, cuda: str | None, why: str) -> None:
    driver.setattr(torch.version, "cuda", cuda)
    choice = choose_precision()
    assert choice.precision == "fp32"
    assert f"PyTorch {torch.__version__} {why}" in choice.reason
    assert choice.reason.endswith("and this CPU has no bf16 arithmetic" + hardware._int8_advice())
    assert why in (precision_warning("fp16") or "")


@pytest.mark.usefixtures("machine")
def test_a_machine_without_a_gpu_gets_no_warning(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine.setattr(hardware, "_NVIDIA_DRIVER", tmp_path / "version")
    assert precision_warning("bf16") is None


@pytest.mark.parametrize(
    ("precision", "capability", "warning"),
    [
        (
            "bf16",
            (7, 5),
            "Some GPU has no bf16 arithmetic, which GPUs have from Ampere on; on this GPU, fp16 is faster",
        ),
        ("bf16", (8, 0), None),
        ("fp16", (7, 5), None),
        ("int8", (9, 0), "int8 encoders run on the CPU and do not use Some GPU; on a GPU, use fp16 or bf16"),
    ],
)
def test_warns_of_a_precision_that_does_not_suit_the_gpu(
    machine: pytest.MonkeyPatch, precision: Precision, capability: tuple[int, int], warning: str | None
) -> None:
    machine.setattr(torch.cuda, "is_available", lambda: True)
    machine.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    machine.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert precision_warning(precision) == warning
