"""The repository holds nothing that only the embedded server understands."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from tuwen_build.render import templates

# What NVIDIA's C++ PyTorch backend of release 24.10 (Triton 2.51) reads: pytorch_backend, src/libtorch.cc.
LIBTORCH_PARAMETERS = {
    "DISABLE_OPTIMIZED_EXECUTION",
    "DISABLE_CUDNN",
    "ENABLE_CACHE_CLEANING",
    "ENABLE_JIT_EXECUTOR",
    "ENABLE_JIT_PROFILING",
    "ENABLE_TENSOR_FUSER",
    "ENABLE_WEIGHT_SHARING",
    "INFERENCE_MODE",
    "INTRA_OP_THREAD_COUNT",
}
MODELS = {
    "image_preprocessing",
    "vision_encoder",
    "image_embedding",
    "text_tokenization",
    "text_encoder",
    "text_embedding",
}


def configs(folder: Path) -> dict[str, ModelConfig]:
    return {
        path.parent.name: text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
        for path in folder.glob("*/config.pbtxt")
    }


@pytest.fixture(params=["templates", "built"])
def models(request: pytest.FixtureRequest) -> dict[str, ModelConfig]:
    return configs(templates() if request.param == "templates" else request.getfixturevalue("repository"))


def test_every_model_is_there_under_its_own_name(models: dict[str, ModelConfig]) -> None:
    assert set(models) == MODELS
    assert all(config.name == name for name, config in models.items())
    assert len({config.max_batch_size for config in models.values()}) == 1


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_encoders_are_what_the_c_plus_plus_backend_takes(models: dict[str, ModelConfig], repository: Path) -> None:
    for name in ("vision_encoder", "text_encoder"):
        config = models[name]
        assert (config.backend, config.platform) == ("pytorch", "pytorch_libtorch")
        assert config.runtime == ""
        assert set(config.parameters) <= LIBTORCH_PARAMETERS
        assert all(value.string_value in ("true", "false") for value in config.parameters.values())
        assert [group.kind for group in config.instance_group] == [ModelInstanceGroup.KIND_AUTO]
        assert len(config.output) == 1
        assert not any(tensor.optional for tensor in config.input)
        module = torch.jit.load(str(repository / name / "1" / config.default_model_filename))  # type: ignore[no-untyped-call]
        arguments = [argument.name for argument in module.forward.schema.arguments[1:]]
        assert [tensor.name for tensor in config.input] == arguments
        assert isinstance(module.forward.schema.returns[0].type, torch.TensorType)


def test_python_models_stay_on_the_cpu(models: dict[str, ModelConfig]) -> None:
    for name in ("image_preprocessing", "text_tokenization"):
        assert models[name].backend == "python"
        assert [group.kind for group in models[name].instance_group] == [ModelInstanceGroup.KIND_CPU]


def test_every_step_batches_sheds_load_and_expires(models: dict[str, ModelConfig]) -> None:
    for name, config in models.items():
        if config.platform == "ensemble":
            continue
        assert config.HasField("dynamic_batching"), name
        if name == "text_tokenization":
            # with a policy or priorities the batcher would not work ahead
            assert not config.dynamic_batching.HasField("default_queue_policy")
            assert not config.dynamic_batching.priority_levels
            continue
        policy = config.dynamic_batching.default_queue_policy
        assert policy.max_queue_size > 0
        assert policy.default_timeout_microseconds > 0, "with 0 a client's own timeout is ignored"
        assert policy.allow_timeout_override
        assert policy.timeout_action == policy.REJECT


def test_ensembles_are_linear(models: dict[str, ModelConfig]) -> None:
    """A forked ensemble can hang or crash Triton before 26.03 when a queue is full (core #466)."""
    for name in ("image_embedding", "text_embedding"):
        config = models[name]
        first, second = config.ensemble_scheduling.step
        assert set(first.input_map.values()) == {tensor.name for tensor in config.input}
        assert set(second.input_map.values()) <= set(first.output_map.values())
        assert not config.instance_group
        assert not config.model_warmup


def test_tensors_fit_from_step_to_step(models: dict[str, ModelConfig]) -> None:
    for name in ("image_embedding", "text_embedding"):
        known = {tensor.name: tensor for tensor in models[name].input}
        for step in models[name].ensemble_scheduling.step:
            model = models[step.model_name]
            for tensor in model.input:
                source = known[step.input_map[tensor.name]]
                assert (source.data_type, source.dims) == (tensor.data_type, tensor.dims)
            known |= {step.output_map[tensor.name]: tensor for tensor in model.output if tensor.name in step.output_map}
        for tensor in models[name].output:
            assert (known[tensor.name].data_type, known[tensor.name].dims) == (tensor.data_type, tensor.dims)


def test_python_models_import_no_more_than_a_server_image_has(repository: Path) -> None:
    import ast
    import sys

    common = {"numpy", "PIL", "tokenizers", "triton_python_backend_utils", *sys.stdlib_module_names}
    for path in repository.rglob("*.py"):
        allowed = common | ({"ftfy"} if path.name == "byte_pairs.py" else set())  # which only OpenAI CLIP imports
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            assert {name.split(".")[0] for name in names} <= allowed, path


@pytest.mark.parametrize("path", sorted(templates().glob("*/1/model.py")), ids=lambda path: path.parts[-3])
def test_adapters_are_thin(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 100
