"""The Python models answer each item as if it were alone. Hypothesis makes the groups of requests that Triton forms."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.images import good_images
from tuwen import pixels
from tuwen.failures import IMAGE_REASONS, TEXT_REASONS, ItemError
from tuwen.pixels import ImageLimits, Preprocessor
from tuwen_build.checkpoints import open_checkpoint
from tuwen_build.export.assembly import write_python_models
from tuwen_build.export.configs import templates
from tuwen_build.options import BuildOptions
from tuwen_build.verification.template_modules import staged_module
from tuwen_repository.configs import read_config

SOME = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FINGERPRINTED = {"fingerprint", "status"}


@dataclass
class Request:
    """A request, as Triton's Python backend passes it to a model."""

    items: list[bytes]
    wants_status: bool

    def parameters(self) -> str:
        return json.dumps({"per_item_status": True}) if self.wants_status else ""


class Metrics:
    """A fake of Triton's metric families, which records the counts.

    Attributes:
        counts: the sums, by the name of the family and the labels.
    """

    COUNTER = HISTOGRAM = 0
    counts: ClassVar[dict[str, dict[str, int]]] = {}

    def __init__(self, name: str, **_: object) -> None:
        counts = self.counts[name] = {}

        def metric(labels: dict[str, str], **_: object) -> SimpleNamespace:
            label = "".join(labels.values())

            def increment(by: int) -> None:
                counts[label] = counts.get(label, 0) + by

            return SimpleNamespace(increment=increment, observe=lambda _: None)

        self.Metric = metric


@pytest.fixture(scope="module")
def folder(minimal_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python models as the build step writes them."""
    folder = tmp_path_factory.mktemp("models")
    write_python_models(folder, open_checkpoint(str(minimal_checkpoint)), BuildOptions())
    return folder


@pytest.fixture
def models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Both Python models, with a fake of the module that they import from Triton."""
    utilities: Any = ModuleType("triton_python_backend_utils")
    utilities.Tensor = lambda name, array: (name, array)
    utilities.InferenceResponse = lambda outputs=(), error=None: SimpleNamespace(outputs=dict(outputs), error=error)
    utilities.TritonError = lambda message, code: SimpleNamespace(message=message, code=code)
    utilities.TritonError.INVALID_ARG = "INVALID_ARG"
    utilities.TritonModelException = RuntimeError
    utilities.MetricFamily = Metrics
    utilities.get_input_tensor_by_name = lambda request, _: SimpleNamespace(
        as_numpy=lambda: np.array(request.items, dtype=object).reshape(-1, 1)
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utilities)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")  # the model sets missing ones for the whole process
    made = {}
    with warnings.catch_warnings():
        for kind, name in (("text", "text_tokenization"), ("image", "image_preprocessing")):
            config = read_config(templates() / name / "config.pbtxt")
            parameters = {key: {"string_value": value.string_value} for key, value in config.parameters.items()}
            with staged_module(folder / name / "1", "model") as module:
                made[kind] = module.TritonPythonModel()
                made[kind].initialize({"model_config": json.dumps({"parameters": parameters})})
        yield made
    made["image"].finalize()


TEXTS = st.one_of(st.binary(max_size=12), st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass")))
PICTURES = st.sampled_from(good_images(12))
IMAGES = st.one_of(st.binary(max_size=30), PICTURES, PICTURES.map(lambda data: data[:-9]))


def requests_of(items: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[Request]]:
    return st.lists(st.builds(Request, st.lists(items, min_size=1, max_size=5), st.booleans()), min_size=1, max_size=6)


def assert_each_is_answered_as_if_alone(model: Any, kind: str, requests: list[Request]) -> None:
    responses = model.execute(requests)
    assert len(responses) == len(requests)
    for request, response in zip(requests, responses, strict=True):
        [alone] = model.execute([Request(request.items, wants_status=True)])
        statuses = [status.decode() for [status] in alone.outputs["status"]]
        bad = [f"{kind} {index}: {status}" for index, status in enumerate(statuses) if status]
        if bad and not request.wants_status:
            assert response.error.code == "INVALID_ARG"
            assert all(one in response.error.message for one in bad)
            assert response.error.message.startswith(f"{len(bad)} of {len(request.items)} {kind}s refused")
            continue
        assert response.error is None
        assert response.outputs.keys() == alone.outputs.keys() >= FINGERPRINTED
        for name, found in response.outputs.items():
            assert len(found) == len(request.items), name
            padded = np.zeros_like(found)  # texts are padded to the longest of all requests
            padded[..., : alone.outputs[name].shape[-1]] = alone.outputs[name]
            read = response.outputs["attention_mask"] != 0 if name == "input_ids" else True
            assert ((found == padded) | np.logical_not(read)).all(), name


@SOME
@given(requests=requests_of(TEXTS))
def test_every_text_is_answered_as_if_it_were_alone(models: dict[str, Any], requests: list[Request]) -> None:
    assert_each_is_answered_as_if_alone(models["text"], "text", requests)


@SOME
@given(requests=requests_of(IMAGES))
def test_every_image_is_answered_as_if_it_were_alone(models: dict[str, Any], requests: list[Request]) -> None:
    assert_each_is_answered_as_if_alone(models["image"], "image", requests)


def test_the_status_of_a_refused_item_is_its_failure(models: dict[str, Any]) -> None:
    with pytest.raises(ItemError) as caught:
        Preprocessor(224, limits=ImageLimits()).pixel_values(b"no image")
    refused = {"image": (b"no image", caught.value), "text": (b"\xff", ItemError("not_utf8", "byte 0 is not UTF-8"))}
    for kind, (item, error) in refused.items():
        good = good_images(1)[0] if kind == "image" else b"a"
        [response] = models[kind].execute([Request([good, item], wants_status=True)])
        assert response.outputs["status"].ravel().tolist() == [b"", error.at(1).status.encode()]
        [response] = models[kind].execute([Request([good, item], wants_status=False)])
        assert response.error.message == f"1 of 2 {kind}s refused: {kind} 1: {error.at(1).status}"


@pytest.mark.usefixtures("models")
def test_counters_exist_for_every_reason_before_anything_is_refused() -> None:
    """Each reason for a refusal has a counter with the value 0 before the first refusal.

    If a counter appeared with its first refusal, Prometheus's rate() would miss this refusal.
    """
    assert Metrics.counts["tuwen_image_decode_failures_total"] == dict.fromkeys(IMAGE_REASONS, 0)
    assert Metrics.counts["tuwen_text_failures_total"] == dict.fromkeys(TEXT_REASONS, 0)
    assert Metrics.counts["tuwen_texts_truncated_total"] == {"": 0}


def test_the_reasons_are_those_that_the_sources_name() -> None:
    def named(*paths: Path) -> set[str]:
        return set(re.findall(r'ItemError\(\s*"(\w+)"', "".join(path.read_text(encoding="utf-8") for path in paths)))

    sdk = Path(pixels.__file__).parent
    assert named(sdk / "pixels.py", sdk / "_structure.py") == set(IMAGE_REASONS)
    assert named(*templates().glob("text_tokenization/1/*.py")) == set(TEXT_REASONS)


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(("parameter", "variable", "threads"), [("3", "5", 3), ("0", "5", 5), ("0", "", 7)])
def test_the_environment_sets_the_decoding_threads_unless_the_config_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch, parameter: str, variable: str, threads: int
) -> None:
    monkeypatch.setenv("DECODE_THREADS", variable)
    config = read_config(templates() / "image_preprocessing" / "config.pbtxt")
    parameters = {key: {"string_value": value.string_value} for key, value in config.parameters.items()}
    parameters["DECODE_THREADS"] = {"string_value": parameter}
    with staged_module(folder / "image_preprocessing" / "1", "model") as module:
        monkeypatch.setattr(module, "usable_cores", lambda: 7)
        model = module.TritonPythonModel()
        model.initialize({"model_config": json.dumps({"parameters": parameters})})
    assert model._pool._max_workers == threads
    model.finalize()
