"""A build's configs and Python models equal the templates, and each encoder takes the inputs in its config.

`tests/unit/models/test_portability.py` tests the templates for portability.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tuwen import ModelCard
from tuwen_build.export.assembly import sdk_modules
from tuwen_build.export.configs import render_config, templates
from tuwen_repository.configs import config_path, read_config

MODELS = [path.parent.name for path in sorted(templates().glob("*/config.pbtxt"))]


def test_the_configs_are_the_templates_rendered_for_the_model_card(repository: Path) -> None:
    card = read_config(config_path(repository, "text_embedding"))
    parameters = {name: value.string_value for name, value in card.parameters.items()}
    model_card = ModelCard.from_parameters(parameters, card.max_batch_size)
    assert sorted(path.parent.name for path in repository.glob("*/config.pbtxt")) == MODELS
    for name in MODELS:
        rendered = render_config(config_path(templates(), name), model_card)
        assert read_config(config_path(repository, name)) == rendered


def test_the_code_of_the_python_models_equals_the_templates(repository: Path) -> None:
    shared = (*templates().glob("shared/*.py"), *sdk_modules("image_preprocessing"), *sdk_modules("text_tokenization"))
    sources = {path.name: path.read_bytes() for path in shared}
    files = list(repository.rglob("*.py"))
    assert files
    for path in files:
        template = templates() / path.relative_to(repository)
        assert path.read_bytes() == (template.read_bytes() if template.exists() else sources[path.name])


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", ["vision_encoder", "text_encoder"])
def test_an_encoder_takes_the_inputs_of_its_config_and_returns_one_tensor(repository: Path, name: str) -> None:
    config = read_config(config_path(repository, name))
    module = torch.jit.load(str(repository / name / "1" / config.default_model_filename))  # type: ignore[no-untyped-call]
    arguments = [argument.name for argument in module.forward.schema.arguments[1:]]
    assert [tensor.name for tensor in config.input] == arguments
    assert isinstance(module.forward.schema.returns[0].type, torch.TensorType)
