"""The model repository contains nothing that only the embedded server understands."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from tuwen import ModelCard, pixels
from tuwen_build.export.configs import WARMUP_FILE, render_config, templates
from tuwen_repository import container_limits
from tuwen_repository.configs import read_config

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
    "pixel_embedding",
    "text_tokenization",
    "text_encoder",
    "text_embedding",
}
CARD = ModelCard(
    family="chinese-clip",
    checkpoint="a checkpoint",
    fingerprint="0" * 32,
    embedding_dimension=64,
    image_size=32,
    resize="squash",
    image_rules="reference",
    jpeg_decoding="full",
    context_length=20,
    logit_scale=100.0,
    precision="fp32",
    max_batch_size=8,
)


@pytest.fixture(params=["templates", "rendered"])
def models(request: pytest.FixtureRequest) -> dict[str, ModelConfig]:
    """Return the config of each model, by its folder: once as in the source, and once as a build writes it."""
    files = {path.parent.name: path for path in templates().glob("*/config.pbtxt")}
    if request.param == "templates":
        return {name: read_config(file) for name, file in files.items()}
    return {name: render_config(file, CARD) for name, file in files.items()}


def test_every_model_has_the_name_of_its_folder(models: dict[str, ModelConfig]) -> None:
    assert set(models) == MODELS
    assert all(config.name == name for name, config in models.items())
    assert len({config.max_batch_size for config in models.values()}) == 1


@pytest.mark.parametrize("folder", sorted(MODELS))
def test_a_name_stands_in_front_of_every_model_and_changes_nothing_else(folder: str) -> None:
    template = templates() / folder / "config.pbtxt"
    bare, named = render_config(template, CARD), render_config(template, replace(CARD, name="b16"))
    assert named.name == f"b16_{folder}"
    steps = [step.model_name for step in named.ensemble_scheduling.step]
    assert steps == [f"b16_{step.model_name}" for step in bare.ensemble_scheduling.step]
    assert ("name" in named.parameters) == (named.platform == "ensemble")
    assert "name" not in bare.parameters
    named.parameters.pop("name", None)
    named.name = bare.name
    for step, unnamed in zip(named.ensemble_scheduling.step, bare.ensemble_scheduling.step, strict=True):
        step.model_name = unnamed.model_name
    assert named == bare


@pytest.mark.parametrize("name", ["vision_encoder", "text_encoder"])
def test_the_c_plus_plus_backend_takes_the_encoders(models: dict[str, ModelConfig], name: str) -> None:
    config = models[name]
    assert (config.backend, config.platform) == ("pytorch", "pytorch_libtorch")
    assert config.runtime == ""
    assert config.default_model_filename == "model.pt"
    assert set(config.parameters) <= LIBTORCH_PARAMETERS
    assert all(value.string_value in ("true", "false") for value in config.parameters.values())
    assert [group.kind for group in config.instance_group] == [ModelInstanceGroup.KIND_AUTO]
    assert len(config.output) == 1
    assert not any(tensor.optional for tensor in config.input)


def test_python_models_stay_on_the_cpu(models: dict[str, ModelConfig]) -> None:
    for name in ("image_preprocessing", "text_tokenization"):
        assert models[name].backend == "python"
        assert [group.kind for group in models[name].instance_group] == [ModelInstanceGroup.KIND_CPU]


def test_every_step_batches_and_refuses_what_waited_too_long(models: dict[str, ModelConfig]) -> None:
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
        assert policy.default_timeout_microseconds > 0, "with 0 Triton ignores a client's own timeout"
        assert policy.allow_timeout_override
        assert policy.timeout_action == policy.REJECT


@pytest.mark.parametrize("name", ["image_embedding", "text_embedding"])
def test_ensembles_are_linear(models: dict[str, ModelConfig], name: str) -> None:
    """Each ensemble is a chain of steps.

    In releases of Triton before 26.03, a forked ensemble can hang or crash the server if a queue is full (core #466).
    """
    config = models[name]
    first, second = config.ensemble_scheduling.step
    assert set(first.input_map.values()) == {tensor.name for tensor in config.input}
    assert set(second.input_map.values()) <= set(first.output_map.values())
    assert not config.instance_group
    assert not config.model_warmup


@pytest.mark.parametrize("name", ["image_embedding", "text_embedding"])
def test_the_output_of_a_step_fits_the_input_of_the_next(models: dict[str, ModelConfig], name: str) -> None:
    known = {tensor.name: tensor for tensor in models[name].input}
    for step in models[name].ensemble_scheduling.step:
        model = models[step.model_name]
        for tensor in model.input:
            source = known[step.input_map[tensor.name]]
            assert (source.data_type, source.dims) == (tensor.data_type, tensor.dims)
        known |= {step.output_map[tensor.name]: tensor for tensor in model.output if tensor.name in step.output_map}
    for tensor in models[name].output:
        assert (known[tensor.name].data_type, known[tensor.name].dims) == (tensor.data_type, tensor.dims)


@pytest.mark.parametrize("rendered", [False, True])
def test_the_output_of_pixel_embedding_is_named_after_the_embedding_space(rendered: bool) -> None:
    file = templates() / "pixel_embedding" / "config.pbtxt"
    config = render_config(file, CARD) if rendered else read_config(file)
    name = "embedding." + (CARD.fingerprint if rendered else "")
    [step], [output], [values] = config.ensemble_scheduling.step, config.output, config.input
    assert step.model_name == "vision_encoder"
    assert dict(step.input_map) == {values.name: "pixel_values"}
    assert dict(step.output_map) == {"embedding": name}
    assert output.name == name
    assert list(output.dims) == [CARD.embedding_dimension if rendered else 512]


def test_python_models_import_no_more_than_a_server_image_has() -> None:
    common = {"numpy", "PIL", "tokenizers", "triton_python_backend_utils", *sys.stdlib_module_names}
    sdk = Path(pixels.__file__).parent
    shared = [*(sdk / name for name in ("pixels.py", "_structure.py", "failures.py")), Path(container_limits.__file__)]
    files = [*templates().rglob("*.py"), *shared]
    # OpenAI CLIP alone imports ftfy. HEIC is an extra: both modules go on where pillow-heif is missing.
    extras = {"byte_pairs.py": {"ftfy"}, "image_preprocessing": {"pillow_heif"}, "pixels.py": {"pillow_heif"}}
    for path in files:
        allowed = common.union(*(extras.get(part, set()) for part in path.parts))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            assert {name.split(".")[0] for name in names} <= allowed, path


@pytest.mark.parametrize("path", sorted(templates().glob("*/1/model.py")), ids=lambda path: path.parts[-3])
def test_adapters_are_thin(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 100


@pytest.mark.parametrize("name", ["vision_encoder", "text_encoder"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "int8"])
def test_only_builds_for_gpus_compute_a_full_batch_before_they_are_ready(name: str, precision: str) -> None:
    config = render_config(templates() / name / "config.pbtxt", replace(CARD, precision=precision))
    sizes = [warmup.batch_size for warmup in config.model_warmup]
    assert sizes == ([1, CARD.max_batch_size] if precision == "fp16" else [1])


def test_the_texts_of_a_full_warm_up_have_full_length() -> None:
    config = render_config(templates() / "text_encoder" / "config.pbtxt", replace(CARD, precision="fp16"))
    for tensor in config.model_warmup[1].inputs.values():
        assert (tensor.input_data_file, list(tensor.dims)) == (WARMUP_FILE, [CARD.context_length])
