"""The embedded server's `pytorch` backend reads the parameters of the C++ backend, and joins requests into a batch."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import tuwen_server

MODEL = Path(tuwen_server.__file__).parent / "backends" / "pytorch" / "model.py"
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class Probe(torch.nn.Module):
    """A module that returns, for each row, the sum of the differences between its two inputs."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).sum(dim=1, keepdim=True)


class TritonError:
    """A fake of Triton's error of one response."""

    INTERNAL, UNAVAILABLE = "internal", "unavailable"

    def __init__(self, message: str, code: str) -> None:
        self.message, self.code = message, code


class NoMetricsError(Exception):
    """The error that Triton raises if a model makes a metric on a server without metrics."""


class Counter:
    """A fake of Triton's metric family with one counter."""

    COUNTER = 0
    values: ClassVar[dict[str, float] | None] = {}
    """The counts by the name of the counter; None: the server has no metrics."""

    def __init__(self, name: str, description: str, kind: int) -> None:
        if self.values is None:
            raise NoMetricsError
        self._name = name
        self.Metric = lambda **_: self

    def increment(self, by: float) -> None:
        assert self.values is not None
        self.values[self._name] = self.values.get(self._name, 0) + by


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    utilities: Any = ModuleType("triton_python_backend_utils")
    utilities.Tensor = lambda name, array: (name, array)
    utilities.InferenceResponse = lambda outputs=None, error=None: SimpleNamespace(outputs=outputs, error=error)
    utilities.TritonError = SimpleNamespace
    utilities.Logger = SimpleNamespace(log_error=print, log_warn=print)
    utilities.get_input_tensor_by_name = lambda request, name: SimpleNamespace(as_numpy=lambda: request[name])
    utilities.TritonModelException = NoMetricsError
    utilities.MetricFamily = Counter
    utilities.TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utilities)
    monkeypatch.syspath_prepend(MODEL.parent)  # as Triton does
    for sibling in MODEL.parent.glob("*.py"):
        monkeypatch.delitem(sys.modules, sibling.stem, raising=False)
    Counter.values = {}
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn.enabled
    spec = importlib.util.spec_from_file_location("pytorch_backend", MODEL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    torch.set_num_threads(threads)
    torch.backends.cudnn.enabled = cudnn


def load(
    backend: ModuleType,
    folder: Path,
    inputs: Sequence[str] = ("a", "b"),
    kind: str = "CPU",
    warmups: Sequence[str] = (),
    **parameters: str,
) -> Any:
    (folder / "1").mkdir()
    torch.jit.save(torch.jit.script(Probe()), str(folder / "1" / "model.pt"))  # type: ignore[no-untyped-call]
    config = {
        "input": [{"name": name} for name in inputs],
        "output": [{"name": "sum"}],
        "default_model_filename": "",
        "max_batch_size": 32,
        "model_warmup": [{"name": name} for name in warmups],
        "parameters": {name: {"string_value": value} for name, value in parameters.items()},
    }
    model = backend.TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps(config),
            "model_name": "probe",
            "model_instance_kind": kind,
            "model_instance_device_id": "0",
            "model_repository": str(folder),
            "model_version": "1",
        }
    )
    return model


class Request(dict[str, Any]):
    """A fake request with the input tensors by name and the parameters of the client.

    Attributes:
        bulk: whether the client sent the parameter `bulk`.
        sent: the responses that the model sent before `execute` returned, with their flags.
    """

    def __init__(self, tensors: Mapping[str, Any], *, bulk: bool = False) -> None:
        super().__init__(tensors)
        self.bulk = bulk
        self.sent: list[tuple[Any, int]] = []

    def parameters(self) -> str:
        return json.dumps({"bulk": True}) if self.bulk else ""

    def get_response_sender(self) -> Any:
        return SimpleNamespace(send=lambda response, flags: self.sent.append((response, flags)))


def request(rows: int, value: float, *, bulk: bool = False) -> Request:
    tensors = {"a": np.full((rows, 3), value, dtype=np.float32), "b": np.zeros((rows, 3), dtype=np.float32)}
    return Request(tensors, bulk=bulk)


def test_weights_of_another_build_than_the_configuration_are_refused(backend: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(NoMetricsError, match="was replaced by another build"):
        load(backend, tmp_path, WEIGHTS="1 2 3")


def test_weights_of_the_configuration_s_build_are_loaded(backend: ModuleType, tmp_path: Path) -> None:
    weights = tmp_path / "1" / "model.pt"
    load(backend, tmp_path)
    found = weights.stat()
    backend._check_weights({"WEIGHTS": f"{found.st_ino} {found.st_mtime_ns} {found.st_size}"}, weights)


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
    wrong = Request({"a": np.zeros((1, 3), dtype=np.float32), "b": np.zeros((1, 5), dtype=np.float32)})
    backend.pb_utils.TritonError = lambda message, code: (message, code)  # type: ignore[attr-defined]
    backend.pb_utils.TritonError.INTERNAL = "internal"  # type: ignore[attr-defined]
    (response,) = model.execute([wrong])
    assert "must match the size" in response.error[0]
    assert "Traceback" not in response.error[0]  # whose lines hold paths
    assert ".py" not in response.error[0]


def test_each_request_of_a_failing_batch_has_an_error_object_of_its_own(backend: ModuleType, tmp_path: Path) -> None:
    """The responses of a failed batch do not share an error object.

    Triton 2.51 frees the error of each response, so a shared object would crash the server.
    """

    model = load(backend, tmp_path)
    backend.pb_utils.TritonError = TritonError  # type: ignore[attr-defined]
    wrong = Request({"a": np.zeros((1, 3), dtype=np.float32), "b": np.zeros((1, 5), dtype=np.float32)})
    errors = [response.error for response in model.execute([wrong, wrong, wrong])]
    assert len({id(error) for error in errors}) == 3
    assert {(error.message == errors[0].message, error.code) for error in errors} == {(True, "internal")}


def test_requests_of_a_failing_batch_are_computed_alone(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed batch, each request is computed alone, so that only the request with the fault fails."""
    monkeypatch.setattr(backend.pb_utils, "TritonError", TritonError)
    model = load(backend, tmp_path)
    run = model._run

    def fail_on_two(inputs: list[Any]) -> Any:
        if (inputs[0] == 2).any():
            raise RuntimeError("out of memory")
        return run(inputs)

    model._run = fail_on_two
    first, failed, last = model.execute([request(1, 1.0), request(2, 2.0), request(1, 3.0)])
    assert [first.outputs[0][1].tolist(), last.outputs[0][1].tolist()] == [[[3.0]], [[9.0]]]
    assert (failed.error.message, failed.error.code) == ("PyTorch execute failure: out of memory", "internal")


def test_the_number_of_intra_op_threads_is_set(backend: ModuleType, tmp_path: Path) -> None:
    load(backend, tmp_path, INTRA_OP_THREAD_COUNT="1")
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("value", ["0", "-1"])
def test_a_thread_count_that_is_not_positive_is_ignored(backend: ModuleType, tmp_path: Path, value: str) -> None:
    before = torch.get_num_threads()
    load(backend, tmp_path, INTRA_OP_THREAD_COUNT=value, INTER_OP_THREAD_COUNT=value)
    assert torch.get_num_threads() == before


def test_inter_op_threads_are_those_of_the_first_model(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []

    def refuse_a_second_time(count: int) -> None:
        counts.append(count)
        if len(counts) > 1:
            raise RuntimeError("cannot set number of interop threads after it was set")

    monkeypatch.setattr(torch, "set_num_interop_threads", refuse_a_second_time)
    for count in (2, 3):
        (tmp_path / str(count)).mkdir()
        load(backend, tmp_path / str(count), INTER_OP_THREAD_COUNT=str(count))
    assert counts == [2, 3]


def test_inputs_are_matched_by_the_names_of_the_arguments(backend: ModuleType, tmp_path: Path) -> None:
    model = load(backend, tmp_path, inputs=("b", "a"))
    (response,) = model.execute([request(1, 1.0)])
    assert response.outputs[0][1].tolist() == [[3.0]]


def test_other_names_are_taken_in_the_order_of_the_configuration(backend: ModuleType, tmp_path: Path) -> None:
    model = load(backend, tmp_path, inputs=("first", "b"))
    given = request(1, 1.0)
    (response,) = model.execute([Request({"first": given["a"], "b": given["b"]})])
    assert response.outputs[0][1].tolist() == [[3.0]]


def test_a_model_with_another_number_of_inputs_is_not_loaded(backend: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(backend.pb_utils.TritonModelException, match="configuration expects 1 inputs, model provides 2"):
        load(backend, tmp_path, inputs=("a",))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("INFERENCE_MODE", "maybe", "expected one of true, on, 1, false, off, 0, got 'maybe'"),
        ("DISABLE_CUDNN", "", "got ''"),
        ("ENABLE_WEIGHT_SHARING", "yes", "got 'yes'"),
        ("INTRA_OP_THREAD_COUNT", "two", "expected a whole number, got 'two'"),
    ],
)
def test_a_parameter_that_cannot_be_read_keeps_the_model_from_loading(
    backend: ModuleType, tmp_path: Path, name: str, value: str, message: str
) -> None:
    with pytest.raises(backend.pb_utils.TritonModelException, match=f"cannot read parameter {name}: .*{message}"):
        load(backend, tmp_path, **{name: value})


def test_an_unknown_parameter_is_ignored(backend: ModuleType, tmp_path: Path) -> None:
    model = load(backend, tmp_path, ENABLE_EVERYTHING="maybe")
    assert len(model.execute([request(1, 1.0)])) == 1


@pytest.mark.parametrize(
    ("value", "inference"),
    [("true", True), ("1", True), ("On", True), ("false", False), ("0", False), ("off", False)],
)
def test_inference_mode_follows_its_parameter(backend: ModuleType, tmp_path: Path, value: str, inference: bool) -> None:
    model = load(backend, tmp_path, INFERENCE_MODE=value)
    seen = []
    module = model._module
    model._module = lambda *tensors: (
        seen.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled())) or module(*tensors)
    )
    model.execute([request(1, 1.0)])
    assert seen == [(inference, False)]


@pytest.mark.parametrize(("parameters", "optimized"), [({"DISABLE_OPTIMIZED_EXECUTION": "true"}, False), ({}, True)])
def test_optimized_execution_follows_its_parameter(
    backend: ModuleType, tmp_path: Path, parameters: dict[str, str], optimized: bool
) -> None:
    model = load(backend, tmp_path, **parameters)
    seen = []
    module = model._module
    model._module = lambda *tensors: seen.append(torch._C._get_graph_executor_optimize()) or module(*tensors)
    model.execute([request(1, 1.0)])
    assert seen == [optimized]


def test_a_parameter_turns_cudnn_off(backend: ModuleType, tmp_path: Path) -> None:
    load(backend, tmp_path, DISABLE_CUDNN="true")
    assert not torch.backends.cudnn.enabled


def test_a_batch_is_computed_without_the_requests_that_are_refused(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.pb_utils.TritonError = TritonError  # type: ignore[attr-defined]
    model = load(backend, tmp_path)
    requests = [request(1, 1.0), request(1, 2.0), request(1, 3.0)]
    reasons = iter(["", "Request timeout expired", ""])
    monkeypatch.setattr(model._backlog, "refusal", lambda _: next(reasons))
    first, refused, last = model.execute(requests)
    assert [first.outputs[0][1].tolist(), last.outputs[0][1].tolist()] == [[[3.0]], [[9.0]]]
    assert (refused.error.message, refused.error.code) == ("Request timeout expired", "unavailable")


class TestBulk:
    """Requests with the parameter `bulk`, and requests without it in the same batch."""

    @pytest.fixture
    def model(self, backend: ModuleType, tmp_path: Path) -> Any:
        return load(backend, tmp_path)

    @pytest.fixture
    def niceness(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[float], str]]:
        """The values of the rows of each computation, with the CPU priority during the computation."""
        priority = ["usual"]
        computed: list[tuple[list[float], str]] = []
        run = model._run

        @contextmanager
        def lowered() -> Iterator[None]:
            priority.append("lowered")
            yield
            priority.pop()

        monkeypatch.setattr(model._priority, "lowered", lowered)
        model._run = lambda inputs: computed.append((inputs[0][:, 0].tolist(), priority[-1])) or run(inputs)
        return computed

    def test_interactive_requests_are_answered_before_the_bulk_requests_of_their_batch_are_computed(
        self, model: Any, niceness: list[tuple[list[float], str]]
    ) -> None:
        requests = [request(2, 1.0, bulk=True), request(1, 2.0), request(1, 3.0, bulk=True), request(1, 4.0)]
        answered = model.execute(requests)
        assert niceness == [([2.0, 4.0], "usual"), ([1.0, 1.0, 3.0], "lowered")]
        assert [response and response.outputs[0][1].tolist() for response in answered] == [
            [[3.0], [3.0]],
            None,
            [[9.0]],
            None,
        ]
        sent = [[(response.outputs[0][1].tolist(), flags) for response, flags in each.sent] for each in requests]
        assert sent == [[], [([[6.0]], 1)], [], [([[12.0]], 1)]]

    @pytest.mark.parametrize(("bulk", "priority"), [(False, "usual"), (True, "lowered")])
    def test_a_batch_of_one_kind_of_requests_is_computed_at_once(
        self, model: Any, niceness: list[tuple[list[float], str]], bulk: bool, priority: str
    ) -> None:
        requests = [request(1, 1.0, bulk=bulk), request(1, 2.0, bulk=bulk)]
        assert None not in model.execute(requests)
        assert niceness == [([1.0, 2.0], priority)]
        assert not any(each.sent for each in requests)

    def test_a_failing_interactive_request_leaves_the_bulk_requests_of_its_batch_unharmed(
        self, backend: ModuleType, model: Any
    ) -> None:
        backend.pb_utils.TritonError = TritonError  # type: ignore[attr-defined]
        wrong = Request({"a": np.zeros((1, 3), dtype=np.float32), "b": np.zeros((1, 5), dtype=np.float32)})
        bulk, failed = model.execute([request(1, 1.0, bulk=True), wrong])
        assert bulk.outputs[0][1].tolist() == [[3.0]]
        assert failed is None
        assert "must match the size" in wrong.sent[0][0].error.message


class TestCache:
    """The cache that the parameter `CACHE_BYTES` turns on."""

    @pytest.fixture
    def model(self, backend: ModuleType, tmp_path: Path) -> Any:
        return load(backend, tmp_path, CACHE_BYTES="100000")

    @pytest.fixture
    def executions(self, model: Any) -> list[list[float]]:
        """The first values of the computed rows, batch by batch."""
        executions: list[list[float]] = []
        run = model._run
        model._run = lambda inputs: executions.append(inputs[0][:, 0].tolist()) or run(inputs)
        return executions

    def test_a_repeated_row_is_not_computed_again(self, model: Any, executions: list[list[float]]) -> None:
        first = model.execute([request(1, 1.0)])
        again = model.execute([request(1, 1.0)])
        assert executions == [[1.0]]
        assert [response.outputs[0][1].tolist() for response in first + again] == [[[3.0]], [[3.0]]]
        assert Counter.values == {"tuwen_text_cache_hits_total": 1, "tuwen_text_cache_misses_total": 1}

    def test_the_unknown_rows_of_all_requests_share_one_execution(
        self, model: Any, executions: list[list[float]]
    ) -> None:
        model.execute([request(1, 1.0)])
        responses = model.execute([request(2, 2.0), request(1, 1.0), request(1, 3.0)])
        assert executions == [[1.0], [2.0, 3.0]]
        sums = [response.outputs[0][1].ravel().tolist() for response in responses]
        assert sums == [[6.0, 6.0], [3.0], [9.0]]

    def test_a_failed_row_is_not_cached(self, backend: ModuleType, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        backend.pb_utils.TritonError = TritonError  # type: ignore[attr-defined]
        with monkeypatch.context() as broken:
            broken.setattr(model, "_module", fail)
            (failed,) = model.execute([request(1, 1.0)])
        (answered,) = model.execute([request(1, 1.0)])
        assert failed.error.message == "PyTorch execute failure: out of memory"
        assert answered.outputs[0][1].tolist() == [[3.0]]

    def test_a_cached_row_is_answered_although_other_rows_fail(self, backend: ModuleType, model: Any) -> None:
        backend.pb_utils.TritonError = TritonError  # type: ignore[attr-defined]
        model.execute([request(1, 1.0)])
        model._module = fail
        known, unknown = model.execute([request(2, 1.0), request(1, 2.0)])
        assert known.outputs[0][1].tolist() == [[3.0], [3.0]]
        assert unknown.error.message == "PyTorch execute failure: out of memory"

    def test_counts_nothing_on_a_server_without_metrics(self, backend: ModuleType, tmp_path: Path) -> None:
        Counter.values = None
        model = load(backend, tmp_path, CACHE_BYTES="100000")
        (response,) = model.execute([request(1, 1.0)])
        assert response.outputs[0][1].tolist() == [[3.0]]


def fail(*_: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("out of memory")


def test_without_the_parameter_every_row_is_computed(backend: ModuleType, tmp_path: Path) -> None:
    model = load(backend, tmp_path)
    executions = []
    run = model._run
    model._run = lambda inputs: executions.append(len(inputs[0])) or run(inputs)
    model.execute([request(2, 1.0)])
    model.execute([request(1, 1.0)])
    assert executions == [2, 1]
    assert Counter.values == {}


@pytest.mark.skipif(sys.platform != "linux", reason="the niceness belongs to a thread on Linux alone")
class TestPriority:
    """Loading and the first batch have low CPU priority; requests have normal CPU priority."""

    @pytest.fixture
    def found(self, backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
        """Record the niceness of each load of a module, and of each batch."""
        found: list[tuple[str, int]] = []

        def record(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
            def recorded(*arguments: Any, **named: Any) -> Any:
                found.append((step, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
                return function(*arguments, **named)

            return recorded

        ones = [np.ones((1, 3), dtype=np.float32)] * 2
        monkeypatch.setattr(backend, "batch_of_ones", lambda *_: ones)
        monkeypatch.setattr(torch.jit, "load", record("load", torch.jit.load))
        run = record("run", backend.TritonPythonModel._run)
        monkeypatch.setattr(backend.TritonPythonModel, "_run", run)
        return found

    def test_a_model_is_loaded_and_warmed_up_with_low_priority_and_answers_with_normal_priority(
        self, backend: ModuleType, tmp_path: Path, found: list[tuple[str, int]]
    ) -> None:
        own = os.getpriority(os.PRIO_PROCESS, 0)
        model = load(backend, tmp_path, warmups=["one_text"])
        model.execute([request(1, 1.0)])
        low = min(own + 10, 19)
        assert found == [("load", low), ("run", low), ("run", own)]

    def test_a_model_without_a_warm_up_computes_nothing_before_its_first_request(
        self, backend: ModuleType, tmp_path: Path, found: list[tuple[str, int]]
    ) -> None:
        load(backend, tmp_path)
        assert [step for step, _ in found] == ["load"]

    def test_the_threads_that_cuda_starts_have_normal_priority(
        self, backend: ModuleType, tmp_path: Path, found: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a GPU, a model loads with normal priority, because CUDA's threads stay and take part in every batch."""
        load_module = torch.jit.load
        monkeypatch.setattr(backend, "choose_device", lambda _: SimpleNamespace(type="cuda"))
        monkeypatch.setattr(backend, "warn_of_slow_arithmetic", lambda *_: None)
        monkeypatch.setattr(torch.jit, "load", lambda path, map_location: load_module(path, "cpu"))  # noqa: ARG005
        monkeypatch.setattr(backend.TritonPythonModel, "_run", lambda *_: None)
        load(backend, tmp_path, kind="GPU")
        assert found == [("load", os.getpriority(os.PRIO_PROCESS, 0))]


class TestGpu:
    """The backend with an instance that Triton placed on a GPU."""

    def test_runs_on_the_cpu_with_a_warning_if_pytorch_cannot_use_the_gpu(
        self, backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        model = load(backend, tmp_path, kind="GPU")
        (response,) = model.execute([request(1, 1.0)])
        assert response.outputs[0][1].tolist() == [[3.0]]
        said = capsys.readouterr().out
        assert f"tuwen: this machine has a GPU, but PyTorch {torch.__version__} cannot use it, so probe runs" in said

    def test_computes_a_full_batch_before_it_is_ready(
        self, backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a GPU, the backend computes a full batch while the model loads.

        The test fakes the GPU: the weights are loaded to the CPU, and the shapes of the batch are recorded.
        """
        ran: list[list[tuple[int, ...]]] = []
        gpu = SimpleNamespace(type="cuda")
        load_module = torch.jit.load
        monkeypatch.setattr(backend, "choose_device", lambda _: gpu)
        monkeypatch.setattr(backend, "warn_of_slow_arithmetic", lambda *_: None)
        monkeypatch.setattr(torch.jit, "load", lambda path, map_location: load_module(path, "cpu"))  # noqa: ARG005
        monkeypatch.setattr(backend, "batch_of_ones", lambda _, __, size: [np.ones((size, 3), dtype=np.int64)] * 2)
        monkeypatch.setattr(
            backend.TritonPythonModel, "_run", lambda _, inputs: ran.append([array.shape for array in inputs])
        )
        load(backend, tmp_path, kind="GPU")
        assert ran == [[(32, 3), (32, 3)]]

    def test_vectors_that_were_computed_on_a_gpu_are_kept_in_the_memory_of_the_host(
        self, backend: ModuleType, tmp_path: Path
    ) -> None:
        """Vectors from a GPU are cached in the memory of the host.

        Triton's own response cache takes only host buffers, and would store no vector from a GPU.
        """

        class OnDevice:
            """A result whose numbers can be read only after they were copied to the host."""

            def __init__(self, rows: torch.Tensor) -> None:
                self._rows = rows

            def cpu(self) -> torch.Tensor:
                return self._rows

        model = load(backend, tmp_path, CACHE_BYTES="100000")
        module = model._module
        model._module = lambda *tensors: OnDevice(module(*tensors))
        first = model.execute([request(1, 1.0)])
        model._module = fail
        again = model.execute([request(1, 1.0)])
        assert [response.outputs[0][1].tolist() for response in first + again] == [[[3.0]], [[3.0]]]

    def test_a_batch_of_ones_has_the_shapes_and_types_of_the_configuration(self, backend: ModuleType) -> None:
        config = {
            "input": [
                {"name": "ids", "dims": ["52"], "data_type": "TYPE_INT64"},
                {"name": "pixels", "dims": ["3", "8", "8"], "data_type": "TYPE_UINT8"},
            ],
        }
        images, tokens = backend.batch_of_ones(config, ["pixels", "ids"], 4)
        assert (images.shape, images.dtype) == ((4, 3, 8, 8), np.uint8)
        assert (tokens.shape, tokens.dtype) == ((4, 52), np.int64)
        assert images.all()
        assert tokens.all()

    @pytest.mark.parametrize(
        ("capability", "dtype", "warned"),
        [((7, 5), torch.bfloat16, True), ((8, 0), torch.bfloat16, False), ((7, 5), torch.float16, False)],
    )
    def test_warns_of_bf16_on_a_gpu_before_ampere(
        self,
        backend: ModuleType,
        capability: tuple[int, int],
        dtype: torch.dtype,
        warned: bool,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")
        backend.warn_of_slow_arithmetic(torch.nn.Linear(2, 2).to(dtype), torch.device("cuda", 0))
        said = capsys.readouterr().out
        assert ("tuwen: Some GPU has no bf16 arithmetic, which GPUs have from Ampere on" in said) == warned
