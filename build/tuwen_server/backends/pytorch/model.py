"""Triton's `pytorch` backend for the embedded server: TorchScript from Python, as a Python-based backend.

NVIDIA's container has the C++ backend, libtriton_pytorch.so; the PyPI wheel of tritonserver has none. Triton
then looks for ``backends/pytorch/model.py`` and runs it for every model with ``backend: "pytorch"``, so the same
repository loads in both. This one reads the parameters that the C++ backend reads (pytorch_backend,
src/pt/model_state.cc, ParseParameters) as far as they mean something here. Parameters that neither backend knows are
ignored; a value that cannot be read keeps the model from loading.
"""

import json
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from backlog import Backlog  # Triton appends this folder to sys.path
from cache_counters import CacheCounters
from gpu import choose_device, full_batch, warn_of_slow_arithmetic
from row_cache import RowCache

_TRUE, _FALSE = ("true", "on", "1"), ("false", "off", "0")
# The C++ backend reads these too. They change nothing here, but a value that it refuses is refused here as well.
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
            with suppress(RuntimeError):  # another model of this process has set it: the first one wins
                torch.set_num_interop_threads(threads)
        torch.backends.cudnn.enabled = not _flag(parameters, "DISABLE_CUDNN", False)
        self._grad_mode = torch.inference_mode if _flag(parameters, "INFERENCE_MODE", True) else torch.no_grad
        optimize = not _flag(parameters, "DISABLE_OPTIMIZED_EXECUTION", False)
        self._execution = nullcontext if optimize else lambda: torch.jit.optimized_execution(False)
        self._device = choose_device(args)
        self._output = config["output"][0]["name"]
        self._backlog = Backlog(_integer(parameters, "MAX_WAITING_MICROSECONDS"))
        size = _integer(parameters, "CACHE_BYTES")
        self._cache = RowCache(size, CacheCounters()) if size else None
        file_name = config.get("default_model_filename") or "model.pt"
        path = Path(args["model_repository"]) / args["model_version"] / file_name
        self._module = torch.jit.load(str(path), map_location=self._device)
        self._inputs = _input_order(args["model_name"], self._module, [tensor["name"] for tensor in config["input"]])
        warn_of_slow_arithmetic(self._module, self._device)
        if self._device.type == "cuda":  # or the first callers would wait for CUDA's libraries and memory
            self._run(full_batch(config, self._inputs))

    def execute(self, requests):
        self._backlog.begin()
        refusals = {index: why for index, request in enumerate(requests) if (why := self._backlog.refusal(request))}
        answers = iter(self._answers([request for index, request in enumerate(requests) if index not in refusals]))
        self._backlog.end()
        return [_refused(refusals[index]) if index in refusals else next(answers) for index in range(len(requests))]

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
            if len(requests) > 1:  # alone, a request fails only by its own fault, and needs less memory
                return [answer for request in requests for answer in self._answers([request])]
            pb_utils.Logger.log_error(str(error))
            # The last line of TorchScript's traceback says what is wrong; the other lines hold paths of this machine.
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
    """A response with an error object of its own.

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


def _integer(parameters, name):
    value = parameters.get(name, "0")
    try:
        return int(value)
    except ValueError:
        message = f"cannot read parameter {name}: expected a whole number, got '{value}'"
        raise pb_utils.TritonModelException(message) from None


def _input_order(model, module, names):
    """Return the names of the inputs in the order of the arguments of `forward`.

    As the C++ backend does it: by name if every name is that of an argument, else in the order of the configuration.
    """
    arguments = [argument.name for argument in module.forward.schema.arguments[1:]]  # without self
    if len(arguments) != len(names):
        raise pb_utils.TritonModelException(
            f"unable to load model '{model}', configuration expects {len(names)} inputs, model provides "
            f"{len(arguments)}"
        )
    return sorted(names, key=arguments.index) if set(names) <= set(arguments) else names
