"""The embedded server's `pytorch` backend honours what the C++ backend reads, one batch for many requests."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import tuwen_build.server

MODEL = Path(tuwen_build.server.__file__).parent / "backends" / "pytorch" / "model.py"
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class Probe(torch.nn.Module):
    """Answers the sum of each row's differences."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).sum(dim=1, keepdim=True)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    utilities: Any = ModuleType("triton_python_backend_utils")
    utilities.Tensor = lambda name, array: (name, array)
    utilities.InferenceResponse = lambda outputs=None, error=None: SimpleNamespace(outputs=outputs, error=error)
    utilities.TritonError = SimpleNamespace
    utilities.Logger = SimpleNamespace(log_error=print)
    utilities.get_input_tensor_by_name = lambda request, name: SimpleNamespace(as_numpy=lambda: request[name])
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utilities)
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn.enabled
    spec = importlib.util.spec_from_file_location("pytorch_backend", MODEL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    torch.set_num_threads(threads)
    torch.backends.cudnn.enabled = cudnn


def load(backend: ModuleType, folder: Path, **parameters: str) -> Any:
    (folder / "1").mkdir()
    torch.jit.save(torch.jit.script(Probe()), str(folder / "1" / "model.pt"))  # type: ignore[no-untyped-call]
    config = {
        "input": [{"name": "a"}, {"name": "b"}],
        "output": [{"name": "sum"}],
        "default_model_filename": "",
        "parameters": {name: {"string_value": value} for name, value in parameters.items()},
    }
    model = backend.TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps(config),
            "model_instance_kind": "CPU",
            "model_instance_device_id": "0",
            "model_repository": str(folder),
            "model_version": "1",
        }
    )
    return model


def request(rows: int, value: float) -> dict[str, Any]:
    return {"a": np.full((rows, 3), value, dtype=np.float32), "b": np.zeros((rows, 3), dtype=np.float32)}


def test_requests_share_one_execution_and_get_their_own_rows(backend: ModuleType, tmp_path: Path) -> None:
    model = load(backend, tmp_path)
    executions = []
    run = model._run
    model._run = lambda inputs: executions.append(inputs[0].shape) or run(inputs)
    responses = model.execute([request(1, 1.0), request(3, 2.0), request(2, 3.0)])
    assert executions == [(6, 3)]
    sums = [response.outputs[0][1].ravel().tolist() for response in responses]
    assert sums == [[3.0], [6.0, 6.0, 6.0], [9.0, 9.0]]


def test_a_failing_batch_fails_its_requests_not_the_server(backend: ModuleType, tmp_path: Path) -> None:
    model = load(backend, tmp_path)
    wrong = {"a": np.zeros((1, 3), dtype=np.float32), "b": np.zeros((1, 5), dtype=np.float32)}
    backend.pb_utils.TritonError = lambda message, code: (message, code)  # type: ignore[attr-defined]
    backend.pb_utils.TritonError.INTERNAL = "internal"  # type: ignore[attr-defined]
    (response,) = model.execute([wrong])
    assert "must match the size" in response.error[0]
    assert "Traceback" not in response.error[0]  # whose lines hold paths
    assert ".py" not in response.error[0]


def test_each_request_of_a_failing_batch_has_an_error_object_of_its_own(backend: ModuleType, tmp_path: Path) -> None:
    """Triton 2.51 frees the error of each response, so a shared object ends the server."""

    class TritonError:
        INTERNAL = "internal"

        def __init__(self, message: str, code: str) -> None:
            self.message, self.code = message, code

    model = load(backend, tmp_path)
    backend.pb_utils.TritonError = TritonError  # type: ignore[attr-defined]
    wrong = {"a": np.zeros((1, 3), dtype=np.float32), "b": np.zeros((1, 5), dtype=np.float32)}
    errors = [response.error for response in model.execute([wrong, wrong, wrong])]
    assert len({id(error) for error in errors}) == 3
    assert {(error.message == errors[0].message, error.code) for error in errors} == {(True, "internal")}


def test_intra_op_threads(backend: ModuleType, tmp_path: Path) -> None:
    load(backend, tmp_path, INTRA_OP_THREAD_COUNT="1")
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("value", "inference"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_inference_mode(backend: ModuleType, tmp_path: Path, value: str, inference: bool) -> None:
    model = load(backend, tmp_path, INFERENCE_MODE=value)
    seen = []
    module = model._module
    model._module = lambda *tensors: (
        seen.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled())) or module(*tensors)
    )
    model.execute([request(1, 1.0)])
    assert seen == [(inference, False)]


@pytest.mark.parametrize(("parameters", "optimized"), [({"DISABLE_OPTIMIZED_EXECUTION": "true"}, False), ({}, True)])
def test_optimized_execution(backend: ModuleType, tmp_path: Path, parameters: dict[str, str], optimized: bool) -> None:
    model = load(backend, tmp_path, **parameters)
    seen = []
    module = model._module
    model._module = lambda *tensors: seen.append(torch._C._get_graph_executor_optimize()) or module(*tensors)
    model.execute([request(1, 1.0)])
    assert seen == [optimized]


def test_cudnn(backend: ModuleType, tmp_path: Path) -> None:
    load(backend, tmp_path, DISABLE_CUDNN="true")
    assert not torch.backends.cudnn.enabled
