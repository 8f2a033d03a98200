"""Objects of KEDA, the Gateway API, Argo CD and KServe, judged by the schemas of their operators."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

pytest.importorskip("helm_python", reason="the package of Helm exists for Linux only")
import kubernetes_validate

from tests.support.chart import rendered
from tests.support.crds import faults, kserve_faults
from tests.support.paths import ROOT
from tuwen_repository.environment import ALLOCATOR_SETTINGS, OPENMP_SETTINGS, TF32_SETTINGS

EXAMPLES = ROOT / "docker" / "examples"
SCALED = {"autoscaling": {"engine": "keda", "authentication": "prometheus"}}
ASLEEP = {
    "autoscaling": {"engine": "keda", "minReplicas": 0},
    "envoy": {"enabled": True},
    "monitoring": {"serviceMonitor": True},
}
ROUTED = {
    "gateway": {
        "enabled": True,
        "parents": [{"name": "public", "namespace": "gateways", "sectionName": "https"}],
        "hostnames": ["clip.example.com"],
    }
}


def example(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("chosen", [SCALED, ASLEEP], ids=["awake", "asleep"])
def test_keda_takes_the_scaled_object(chosen: dict[str, Any]) -> None:
    found = rendered(chosen)["ScaledObject"]
    assert faults(found) == []
    assert found["spec"]["fallback"]["behavior"] == "currentReplicasIfHigher"


def test_a_wrong_scaled_object_is_found() -> None:
    found = copy.deepcopy(rendered(SCALED)["ScaledObject"])
    found["spec"]["fallback"]["behavior"] = "sometimes"
    found["spec"]["triggers"][0]["authenticationRef"] = {"nam": "prometheus"}
    [first, *others] = faults(found)
    assert "spec/fallback/behavior must be equal to one of the allowed values" in first
    assert "authenticationRef must have required property name" in first
    assert others == ["unknown key 'nam'"]


def test_the_gateway_api_takes_the_route() -> None:
    assert faults(rendered(ROUTED)["GRPCRoute"]) == []


@pytest.mark.parametrize("hostname", ["Clip.example.com", "clip_example.com"])
def test_a_wrong_host_name_is_found(hostname: str) -> None:
    chosen = {"gateway": {**ROUTED["gateway"], "hostnames": [hostname]}}
    assert any("spec/hostnames/0 must match pattern" in fault for fault in faults(rendered(chosen)["GRPCRoute"]))


def test_argo_cd_takes_the_example_and_the_chart_takes_its_values() -> None:
    [application] = example("argocd.yaml")
    assert faults(application) == []
    source = application["spec"]["source"]
    chart = yaml.safe_load((ROOT / "docker" / "kubernetes" / "Chart.yaml").read_text(encoding="utf-8"))
    assert (source["chart"], source["targetRevision"]) == (chart["name"], chart["version"])
    objects = rendered(source["helm"]["valuesObject"], source["helm"]["releaseName"])
    assert "Secret/key" not in objects  # a random one would change at each rendering
    wrong = copy.deepcopy(application)
    del wrong["spec"]["project"]
    wrong["spec"]["syncPolicy"]["automatic"] = {}
    assert faults(wrong) == ["data/spec must have required property project", "unknown key 'automatic'"]


def test_kserve_takes_the_runtime_and_the_service() -> None:
    runtime, service = example("kserve.yaml")
    assert kserve_faults(runtime) == []
    assert kserve_faults(service) == []
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    [supported] = runtime["spec"]["supportedModelFormats"]
    assert (model["modelFormat"]["name"], model["modelFormat"]["version"]) == (supported["name"], supported["version"])
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    wrong = copy.deepcopy(service)
    wrong["spec"]["predictor"]["minReplicas"] = "2"
    wrong["spec"]["predictor"]["model"] = {"storageURI": "pvc://a"}
    assert kserve_faults(wrong) == [
        "InferenceService.spec.predictor.minReplicas: expected int, got '2'",
        "InferenceService.spec.predictor.model: modelFormat is missing",
        "InferenceService.spec.predictor.model: unknown key 'storageURI'",
    ]


def test_the_pods_of_kserve_are_like_those_of_the_chart() -> None:
    runtime, _ = example("kserve.yaml")
    [container] = runtime["spec"]["containers"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {"containers": [container], "volumes": runtime["spec"]["volumes"]},
    }
    kubernetes_validate.validate(pod, "1.37", strict=True)
    [ours] = rendered({})["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ours["command"]
    chart = set(ours["args"])
    assert {one.replace("/mnt/models", "/models") for one in container["args"]} <= chart
    settings = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    assert settings == {**ALLOCATOR_SETTINGS, **OPENMP_SETTINGS, **TF32_SETTINGS}
    assert container["image"] == ours["image"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/dev/shm", "/tmp"}
