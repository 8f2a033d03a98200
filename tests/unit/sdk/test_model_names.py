"""The names of Triton models on a server with several repositories."""

from __future__ import annotations

import pytest

from tuwen import InvalidArgumentError
from tuwen.model_names import check_name, full_name, name_and_model, names_in


@pytest.mark.parametrize("name", ["", "b16", "b", "9", "zh-b16-2026", "image", "a" * 63])
def test_a_full_name_is_split_into_its_parts_again(name: str) -> None:
    check_name(name)
    for model in ("text_embedding", "image_preprocessing", "pixel_embedding"):
        assert name_and_model(full_name(name, model)) == (name, model)


@pytest.mark.parametrize("name", ["B16", "b_16", "b.16", "-b", "b-", "b 16", "模型", "a" * 64, "../x", "b16\n", "b@1"])
def test_rejects_a_name_that_is_not_a_dns_label(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid model name .* use up to 63 lower-case letters"):
        check_name(name)


@pytest.mark.parametrize("model", ["resnet", "b16_resnet", "_text_embedding", "B16_text_embedding", "a_b_text_encoder"])
def test_other_models_have_no_name_of_a_repository(model: str) -> None:
    assert name_and_model(model) is None


def test_lists_every_repository_once() -> None:
    models = ["l14_text_embedding", "text_embedding", "l14_text_encoder", "b16_text_embedding", "resnet"]
    assert names_in(models) == ["", "b16", "l14"]
