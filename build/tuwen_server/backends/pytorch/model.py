"""Triton's `pytorch` backend for the embedded server: a Python-based backend that runs TorchScript.

NVIDIA's container has the C++ backend, libtriton_pytorch.so. The PyPI wheel of tritonserver lacks it. Triton then looks
for ``backends/pytorch/model.py`` and runs it for every model with ``backend: "pytorch"``, so that the same repository
loads in both. This backend reads the same parameters as the C++ backend (pytorch_backend, src/pt/model_state.cc,
ParseParameters) if they have a meaning here. Unknown parameters are ignored. A model with an unreadable value does not
load.
"""

import json
from contextlib import nullcontext, suppress
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from backlog import Backlog, is_bulk  # Triton appends this folder to sys.path
from cache_counters import CacheCounters
from cpu_priority import CpuPriority, in_background

in_background(import_module, "torch")  # takes a core for a second, which other models may need

import torch  # noqa: E402
from gpu import batch_of_ones, choose_device, warn_of_slow_arithmetic  # noqa: E402
from row_cache import RowCache  # noqa: E402

_TRUE, _FALSE = ("true", "on", "1"), ("false", "off", "0")
# Parameters of the C++ backend that have no effect here. A value that the C++ backend rejects is rejected here too.
_WITHOUT_EFFECT = (
    "ENABLE_CACHE_CLEANING",
    "ENABLE_JIT_EXECUTOR",
    "ENABLE_JIT_PROFILING",
    "ENABLE_TENSOR_FUSER",
    "ENABLE_WEIGHT_SHARING",
)


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        for name in _WITHOUT_EFFECT:
            _flag(parameters, name, False)
        if (threads := _integer(parameters, "INTRA_OP_THREAD_COUNT")) > 0:
            torch.set_num_threads(threads)
        if (threads := _integer(parameters, "INTER_OP_THREAD_COUNT")) > 0:
            with suppress(RuntimeError):  # another model of this process has set it; the first value stays
                torch.set_num_interop_threads(threads)
        torch.backends.cudnn.enabled = not _flag(parameters, "DISABLE_CUDNN", False)
        self._grad_mode = torch.inference_mode if _flag(parameters, "INFERENCE_MODE", True) else torch.no_grad
        optimize = not _flag(parameters, "DISABLE_OPTIMIZED_EXECUTION", False)
        self._execution = nullcontext if optimize else lambda: torch.jit.optimized_execution(False)
        self._device = choose_device(args)
        self._priority = CpuPriority(self._device)
        self._output = config["output"][0]["name"]
        self._backlog = Backlog(_integer(parameters, "MAX_WAITING_MICROSECONDS"))
        size = _integer(parameters, "CACHE_BYTES")
        self._cache = RowCache(size, CacheCounters()) if size else None
        file_name = config.get("default_model_filename") or "model.pt"
        path = Path(args["model_repository"]) / args["model_version"] / file_name
        _check_weights(parameters, path)
        load = partial(self._load, path, args["model_name"], config)
        # CUDA starts threads that stay, so they must have the normal priority.
        load() if self._device.type == "cuda" else in_background(load)

    def _load(self, path, name, config):
        """Load the module, and compute a full batch on a GPU, or one item on a CPU if the configuration has a warm-up.

        The first batch takes much longer than later batches, because weights are packed and CUDA loads its libraries.
        """
        self._module = torch.jit.load(str(path), map_location=self._device)
        self._inputs = _input_order(name, self._module, [tensor["name"] for tensor in config["input"]])
        warn_of_slow_arithmetic(self._module, self._device)
        if self._device.type == "cuda":
            self._run(batch_of_ones(config, self._inputs, config["max_batch_size"]))
        elif config.get("model_warmup"):
            self._run(batch_of_ones(config, self._inputs, 1))

    def execute(self, requests):
        self._backlog.begin()
        responses, interactive, bulk = {}, [], []
        for index, request in enumerate(requests):
            if why := self._backlog.refusal(request):
                responses[index] = _refused(why)
            else:
                (bulk if is_bulk(request) else interactive).append(index)
        responses |= self._answers_by_index(interactive, requests)
        if interactive and bulk:  # interactive requests do not wait for the bulk requests of their batch
            for index in interactive:
                sender = requests[index].get_response_sender()
                sender.send(responses.pop(index), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        if bulk:
            with self._priority.lowered():
                responses |= self._answers_by_index(bulk, requests)
        self._backlog.end()
        return [responses.get(index) for index in range(len(requests))]  # None: the response is sent already

    def _answers_by_index(self, indices, requests):
        return dict(zip(indices, self._answers([requests[index] for index in indices])))

    def _answers(self, requests):
        if not requests:
            return []
        batches = [
            [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs]
            for request in requests
        ]
        try:
            embeddings = self._embeddings([np.concatenate(tensors) for tensors in zip(*batches)])
        except Exception as error:
            if len(requests) > 1:  # a request alone fails only by its own fault, and needs less memory
                return [answer for request in requests for answer in self._answers([request])]
            pb_utils.Logger.log_error(str(error))
            # The last line of TorchScript's traceback names the error. The other lines hold paths of this machine.
            last_line = str(error).strip().rpartition("\n")[2]
            return [_failure(f"PyTorch execute failure: {last_line}")]
        ends = np.cumsum([len(batch[0]) for batch in batches])[:-1]
        return [self._response(rows) for rows in np.split(embeddings, ends)]

    def _response(self, rows):
        return pb_utils.InferenceResponse([pb_utils.Tensor(self._output, rows)])

    def _embeddings(self, inputs):
        return self._cache.rows(inputs, self._run) if self._cache else self._run(inputs)

    def _run(self, inputs):
        with self._grad_mode(), self._execution():
            tensors = [torch.from_numpy(array).to(self._device) for array in inputs]
            return self._module(*tensors).cpu().numpy()


def _refused(message):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.UNAVAILABLE))


def _failure(message):
    """Return a response with its own error object.

    Triton 2.51 frees the error of each response. If two responses share one error object, the server reads freed
    memory and ends with signal 6 or 11.
    """
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INTERNAL))


def _flag(parameters, name, default):
    value = parameters.get(name, str(default))
    if value.lower() not in _TRUE + _FALSE:
        accepted = ", ".join(_TRUE + _FALSE)
        raise pb_utils.TritonModelException(f"cannot read parameter {name}: expected one of {accepted}, got '{value}'")
    return value.lower() in _TRUE


def _check_weights(parameters, path):
    """Check that the file of weights belongs to the build whose fingerprint the configuration holds."""
    if "WEIGHTS" not in parameters:
        return
    found = path.stat()
    if parameters["WEIGHTS"] != f"{found.st_ino} {found.st_mtime_ns} {found.st_size}":
        raise pb_utils.TritonModelException(
            f"{path} was replaced by another build, but the model's configuration was not replaced yet; load the model "
            "again in a moment"
        )


def _integer(parameters, name):
    value = parameters.get(name, "0")
    try:
        return int(value)
    except ValueError:
        message = f"cannot read parameter {name}: expected a whole number, got '{value}'"
        raise pb_utils.TritonModelException(message) from None


def _input_order(model, module, names):
    """Return the names of the inputs in the order of the arguments of `forward`.

    As in the C++ backend, inputs are matched by name if every name is an argument's name. Otherwise, the order of the
    configuration counts.
    """
    arguments = [argument.name for argument in module.forward.schema.arguments[1:]]  # without self
    if len(arguments) != len(names):
        raise pb_utils.TritonModelException(
            f"unable to load model '{model}', configuration expects {len(names)} inputs, model provides "
            f"{len(arguments)}"
        )
    return sorted(names, key=arguments.index) if set(names) <= set(arguments) else names
