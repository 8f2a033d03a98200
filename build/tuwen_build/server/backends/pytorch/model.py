"""Triton's `pytorch` backend for the embedded server: TorchScript from Python, as a Python-based backend.

NVIDIA's container has the C++ backend, libtriton_pytorch.so; the PyPI wheel of tritonserver has none. Triton
then looks for ``backends/pytorch/model.py`` and runs it for every model with ``backend: "pytorch"``, so the same
repository loads in both. This one reads the parameters that the C++ backend reads (pytorch_backend,
src/pt/model_state.cc, ParseParameters) as far as they mean something here.
"""

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        if threads := int(parameters.get("INTRA_OP_THREAD_COUNT", 0)):
            torch.set_num_threads(threads)
        torch.backends.cudnn.enabled = not _flag(parameters, "DISABLE_CUDNN", False)
        self._grad_mode = torch.inference_mode if _flag(parameters, "INFERENCE_MODE", True) else torch.no_grad
        optimize = not _flag(parameters, "DISABLE_OPTIMIZED_EXECUTION", False)
        self._execution = nullcontext if optimize else lambda: torch.jit.optimized_execution(False)
        self._device = _device(args)
        # By forward order, which is the order of the config's inputs: the build step writes both.
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._output = config["output"][0]["name"]
        file_name = config.get("default_model_filename") or "model.pt"
        path = Path(args["model_repository"]) / args["model_version"] / file_name
        self._module = torch.jit.load(str(path), map_location=self._device)

    def execute(self, requests):
        batches = [
            [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs]
            for request in requests
        ]
        try:
            embeddings = self._run([np.concatenate(tensors) for tensors in zip(*batches)])
        except Exception as error:  # it concerns the batch, so every request in the batch fails
            pb_utils.Logger.log_error(str(error))
            # The last line of TorchScript's traceback says what is wrong; the other lines hold paths of this machine.
            message = str(error).strip().rpartition("\n")[2]
            return [_failure(message) for _ in requests]
        ends = np.cumsum([len(batch[0]) for batch in batches])[:-1]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(self._output, rows)]) for rows in np.split(embeddings, ends)
        ]

    def _run(self, inputs):
        with self._grad_mode(), self._execution():
            tensors = [torch.from_numpy(array).to(self._device) for array in inputs]
            return self._module(*tensors).cpu().numpy()


def _failure(message):
    """A response with an error object of its own.

    Triton 2.51 frees the error of each response. If two responses share one error object, the server reads freed
    memory and ends with signal 6 or 11.
    """
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INTERNAL))


def _flag(parameters, name, default):
    return parameters.get(name, str(default)).lower() in ("true", "1")


def _device(args):
    if args["model_instance_kind"] == "GPU":
        return torch.device("cuda", int(args["model_instance_device_id"]))
    return torch.device("cpu")
