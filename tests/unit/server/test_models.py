"""Loading, unloading and aliases, with a fake of Triton's model control."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.support.stand_in import HurriedClock
from tuwen import InvalidArgumentError
from tuwen.model_names import ENSEMBLES, STEPS, full_name, name_and_model
from tuwen_server import ModelAdministrator, ServedModel
from tuwen_server.errors import ModelControlError

MODELS = tuple(dict.fromkeys([*ENSEMBLES, *(step for steps in STEPS.values() for step in steps)]))


class Triton:
    """A fake of Triton's model control, with states, dependencies, and models that are in no repository.

    Attributes:
        calls: the loads and unloads, in order.
        broken: the name of a model that cannot be loaded; empty: every model can be loaded.
        busy: the number of status queries during which an unloaded ensemble still has requests.
    """

    def __init__(self, *names: str) -> None:
        self.states_now = {full_name(name, model): "READY" for name in names for model in MODELS}
        self.configs = {full_name(name, model): self._config(name, model) for name in names for model in ENSEMBLES}
        self.calls: list[str] = []
        self.broken = ""
        self.busy = 0

    @staticmethod
    def _config(name: str, model: str) -> ModelConfig:
        config = ModelConfig(name=full_name(name, model), platform="ensemble")
        config.parameters["fingerprint"].string_value = f"space of {name}"
        config.parameters["checkpoint"].string_value = f"checkpoint of {name}"
        if name:
            config.parameters["name"].string_value = name
        for step in STEPS[model]:
            config.ensemble_scheduling.step.add(model_name=full_name(name, step))
        return config

    def config(self, model: str) -> ModelConfig:
        return self.configs[model]

    def load(self, model: str, config: ModelConfig | None = None, *, files: Mapping[str, bytes] | None = None) -> None:
        self.calls.append(f"load {model}")
        if model == self.broken:
            raise ModelControlError(f"could not load {model}")
        assert model in self.states_now or (config is not None and files)
        if config is not None:
            self.configs[model] = ModelConfig.FromString(config.SerializeToString())
        steps = self.configs[model].ensemble_scheduling.step if model in self.configs else ()
        assert all(self.states_now[step.model_name] == "READY" for step in steps)
        self.states_now[model] = "READY"

    def unload(self, model: str) -> None:
        self.calls.append(f"unload {model}")
        self.states_now[model] = "UNLOADING" if self.busy else "UNAVAILABLE"

    def states(self) -> dict[str, str]:
        shown = dict(self.states_now)
        self.busy = max(0, self.busy - 1)
        if not self.busy:
            over = {model: "UNAVAILABLE" for model, state in self.states_now.items() if state == "UNLOADING"}
            self.states_now.update(over)
        return shown

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def triton() -> Triton:
    return Triton("b16", "l14")


@pytest.fixture
def server(triton: Triton, clock: HurriedClock) -> Iterator[ModelAdministrator]:
    with ModelAdministrator("localhost:1", control=cast("Any", triton), clock=clock) as opened:
        yield opened


def test_lists_models_with_their_spaces(server: ModelAdministrator, triton: Triton) -> None:
    server.alias("shop", "b16")
    server.unload("l14")
    triton.states_now["resnet"] = "READY"
    assert server.models() == [
        ServedModel("b16", "loaded", None, "space of b16", "checkpoint of b16"),
        ServedModel("l14", "unloaded"),
        ServedModel("shop", "loaded", "b16", "space of b16", "checkpoint of b16"),
    ]


def test_a_model_without_a_name_is_not_listed_as_an_alias() -> None:
    bare = Triton("")
    [model] = ModelAdministrator("localhost:1", control=cast("Any", bare)).models()
    assert (model.name, model.state, model.alias_of) == ("", "loaded", None)


def test_unloading_frees_the_steps_after_the_last_request(server: ModelAdministrator, triton: Triton) -> None:
    triton.busy = 5
    server.unload("b16")
    assert [call.split("_", 1)[1] for call in triton.calls] == list(MODELS)
    assert {state for model, state in triton.states_now.items() if model.startswith("b16")} == {"UNAVAILABLE"}


def test_a_model_that_stays_busy_is_named(server: ModelAdministrator, triton: Triton, clock: HurriedClock) -> None:
    triton.busy = 10**9
    with pytest.raises(ModelControlError, match="'b16' was still busy 60 s"):
        server.unload("b16")
    assert clock.time >= 60
    assert not any("encoder" in call for call in triton.calls)


def test_a_model_is_loaded_again(server: ModelAdministrator, triton: Triton) -> None:
    server.unload("b16")
    found = server.load("b16")
    assert (found.state, found.fingerprint) == ("loaded", "space of b16")
    loads = [call.removeprefix("load b16_") for call in triton.calls if call.startswith("load")]
    assert set(loads) == set(MODELS)
    assert set(loads[-3:]) == set(ENSEMBLES)  # their steps are loaded before them, one at a time


def test_a_repository_that_appears_is_waited_for(
    server: ModelAdministrator, triton: Triton, clock: HurriedClock
) -> None:
    def appear() -> None:
        if clock.time > 1:
            triton.configs.update({f"new_{model}": triton._config("new", model) for model in ENSEMBLES})
            triton.states_now.update({f"new_{model}": triton.states_now.get(f"new_{model}", "") for model in MODELS})

    clock.on_pause = appear
    assert server.load("new").state == "loaded"


def test_an_unknown_name_is_refused_with_the_known_names(server: ModelAdministrator) -> None:
    with pytest.raises(ModelControlError, match=r"expected the name of a repository of the server \('b16', 'l14'\)"):
        server.load("b32")


def test_a_loaded_model_is_not_replaced_in_its_place(server: ModelAdministrator, triton: Triton) -> None:
    with pytest.raises(ModelControlError, match="the model is loaded already. To replace the model, unload it first"):
        server.load("b16")
    assert triton.calls == []


def test_a_model_that_cannot_be_loaded_as_a_whole_is_unloaded(server: ModelAdministrator, triton: Triton) -> None:
    server.unload("b16")
    triton.broken = "b16_text_embedding"
    with pytest.raises(ModelControlError, match="could not load b16_text_embedding"):
        server.load("b16")
    assert {state for model, state in triton.states_now.items() if model.startswith("b16")} == {"UNAVAILABLE"}


class TestAliases:
    def test_an_alias_has_the_steps_and_the_card_of_its_model(self, server: ModelAdministrator, triton: Triton) -> None:
        for target in ("b16", "l14"):
            assert server.alias("shop", target).alias_of == target
            config = triton.configs["shop_image_embedding"]
            steps = [step.model_name for step in config.ensemble_scheduling.step]
            assert steps == [f"{target}_image_preprocessing", f"{target}_vision_encoder"]
            assert config.parameters["fingerprint"].string_value == f"space of {target}"

    def test_an_alias_of_an_alias_stands_for_the_model(self, server: ModelAdministrator) -> None:
        server.alias("shop", "b16")
        assert server.alias("store", "shop").alias_of == "b16"

    def test_the_model_of_an_alias_cannot_be_unloaded(self, server: ModelAdministrator, triton: Triton) -> None:
        server.alias("shop", "b16")
        with pytest.raises(ModelControlError, match="the alias 'shop' stands for it"):
            server.unload("b16")
        server.alias("shop", "l14")
        server.unload("b16")
        assert triton.states_now["b16_text_encoder"] == "UNAVAILABLE"

    def test_an_alias_is_removed_alone(self, server: ModelAdministrator, triton: Triton) -> None:
        server.alias("shop", "b16")
        server.unload("shop")
        removed = {model for model, state in triton.states_now.items() if state == "UNAVAILABLE"}
        assert {split for model in removed if (split := name_and_model(model))} == {("shop", one) for one in ENSEMBLES}

    def test_the_name_of_a_repository_is_refused_as_an_alias(self, server: ModelAdministrator) -> None:
        with pytest.raises(ModelControlError, match="a repository has this name"):
            server.alias("l14", "b16")

    def test_an_alias_needs_a_loaded_model(self, server: ModelAdministrator) -> None:
        server.unload("b16")
        for target in ("b16", "nothing"):
            with pytest.raises(ModelControlError, match=f"the model '{target}' is not loaded"):
                server.alias("shop", target)

    @pytest.mark.parametrize("name", ["", "Shop", "a_b"])
    def test_rejects_a_name_that_no_model_can_have(self, server: ModelAdministrator, name: str) -> None:
        with pytest.raises(InvalidArgumentError):
            server.alias(name, "b16")
