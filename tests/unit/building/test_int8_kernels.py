"""On a CPU whose int8 kernels are slow or saturate, int8 is not advised, and a build and a server refuse it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.stand_in import write_repository
from tuwen_build import hardware
from tuwen_build.errors import BuildError, VerificationError
from tuwen_build.options import BuildOptions
from tuwen_build.repository import build_repository
from tuwen_build.verification.verify import verify_kernels
from tuwen_repository import int8_kernels
from tuwen_repository.int8_kernels import OVERRIDE, int8_obstacle, int8_products_are_exact
from tuwen_repository.manifest import Manifest
from tuwen_server import EmbeddedServer
from tuwen_server.errors import UnsupportedPlatformError

VNNI, NO_VNNI = {"avx2", "avx512_vnni"}, {"avx2", "avx_vnni", "avx512f"}
UMATH = sys.modules["numpy.core._multiarray_umath" if np.__version__ < "2" else "numpy._core._multiarray_umath"]
INT8 = BuildOptions(precision="int8")


@pytest.fixture
def without_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a CPU without VNNI, such as Zen 3, Broadwell or Skylake."""
    monkeypatch.delenv(OVERRIDE, raising=False)
    monkeypatch.setattr("tuwen_repository.int8_kernels._cpu_flags", lambda: frozenset(NO_VNNI))


@pytest.mark.parametrize("limit", ["", "ALL", "DEFAULT", "AVX512_CORE_VNNI", "avx512_core_amx", "AVX10_1_512"])
def test_a_cpu_with_vnni_may_compute_int8(limit: str) -> None:
    assert int8_obstacle(VNNI, {"ONEDNN_MAX_CPU_ISA": limit}) is None


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize("limit", ["SSE41", "AVX2", "avx2", "AVX2_VNNI", "AVX512_CORE"])
def test_the_override_does_not_lift_a_limit_of_onednn_below_vnni(name: str, limit: str) -> None:
    obstacle = int8_obstacle(VNNI, {name: limit, OVERRIDE: "1"})
    assert obstacle is not None
    assert name in obstacle
    assert "saturate" in obstacle


@pytest.mark.parametrize("flags", [NO_VNNI, set()])
def test_a_cpu_without_vnni_needs_the_override(flags: set[str]) -> None:
    obstacle = int8_obstacle(flags, {})
    assert obstacle is not None
    assert f"set {OVERRIDE}=1" in obstacle
    assert int8_obstacle(flags, {OVERRIDE: "1"}) is None


@pytest.mark.parametrize(("reported", "is_refused"), [(True, False), (False, True)])
def test_an_emulated_cpu_needs_the_vnni_flag_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reported: bool, is_refused: bool
) -> None:
    """On an emulated CPU that does not report VNNI itself, int8 is refused, even if /proc/cpuinfo lists VNNI.

    /proc/cpuinfo shows the flags of the host, but NumPy asks the emulated CPU.
    """
    host = tmp_path / "cpuinfo"
    host.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\n")
    monkeypatch.setattr(int8_kernels, "_CPU_INFO", host)
    monkeypatch.setattr(UMATH, "__cpu_features__", {"AVX2": True, "AVX512VNNI": reported})
    assert (int8_obstacle(int8_kernels._cpu_flags.__wrapped__(), {}) is not None) == is_refused


def test_without_cpu_features_of_numpy_the_flags_of_the_host_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = tmp_path / "cpuinfo"
    host.write_text("flags\t\t: fpu avx2 avx512_vnni\n")
    monkeypatch.setattr(int8_kernels, "_CPU_INFO", host)
    monkeypatch.delattr(UMATH, "__cpu_features__")
    assert int8_kernels._cpu_flags.__wrapped__() == {"fpu", "avx2", "avx512_vnni"}


@pytest.mark.usefixtures("without_vnni")
def test_a_build_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot build with precision int8: this CPU lacks AVX-512 VNNI"):
        build_repository("a checkpoint that is not there", tmp_path / "out", INT8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_vnni")
def test_serving_is_refused_without_vnni(tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "repository")
    replace(Manifest.read(repository), precision="int8").write(repository)
    with pytest.raises(UnsupportedPlatformError, match="with precision int8: this CPU lacks AVX-512 VNNI"):
        EmbeddedServer(repository).start()


@pytest.mark.parametrize(("flags", "advised"), [(VNNI, True), (NO_VNNI, False)])
def test_int8_is_advised_only_where_it_is_fast(monkeypatch: pytest.MonkeyPatch, flags: set[str], advised: bool) -> None:
    no: Callable[[], bool] = lambda: False  # noqa: E731
    monkeypatch.setattr("tuwen_repository.int8_kernels._cpu_flags", lambda: frozenset(flags))
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", OVERRIDE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", no)
    monkeypatch.setattr(hardware, "cpu_has_bf16_tiles", no)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", no)
    assert ("int8" in hardware.choose_precision().reason) == advised


def test_verification_rejects_kernels_that_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturating(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        pairs = (left.int()[:, ::2, None] * right.int()[::2] + left.int()[:, 1::2, None] * right.int()[1::2]) * 2
        return pairs.clamp(-(2**15), 2**15 - 1).sum(dim=1) // 2

    assert int8_products_are_exact() or int8_obstacle() is not None
    monkeypatch.setattr(torch, "_int_mm", saturating)
    with pytest.raises(VerificationError, match="saturates"):
        verify_kernels(INT8)
    verify_kernels(BuildOptions())
