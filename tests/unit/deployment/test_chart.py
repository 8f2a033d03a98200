"""The Helm chart, rendered by Helm and checked with the schemas of Kubernetes and of the operators that it uses."""

from __future__ import annotations

import base64
import copy
import functools
import json
import re
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

helm = pytest.importorskip("helm_python", reason="the package of Helm exists for Linux only")
import kubernetes_validate  # noqa: E402

from tests.support.chart import CHART, EVERYTHING, SHA256, VOLUME, rendered  # noqa: E402
from tests.support.paths import ROOT  # noqa: E402
from tests.support.prometheus import program  # noqa: E402

OLDEST, NEWEST = "1.30", "1.37"
OF_OPERATORS = {"GRPCRoute", "PrometheusRule", "ScaledObject", "ServiceMonitor"}
PRESETS = sorted((CHART / "presets").glob("*.yaml"))
CHOICES: dict[str, dict[str, Any]] = {
    "defaults": {},
    **{preset.stem: yaml.safe_load(preset.read_text(encoding="utf-8")) for preset in PRESETS},
    "everything": EVERYTHING,
    "volume": VOLUME,
}


@pytest.fixture(scope="module", autouse=True)
def schemas_are_read_once() -> Iterator[None]:
    """Keep the schemas of Kubernetes in memory, because kubernetes-validate reads them anew for every object."""
    from kubernetes_validate import utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield


def test_objects_follow_the_models_of_their_operators() -> None:
    """Objects of KEDA and of the Prometheus operator equal themselves after a round trip through the operators' models.

    The models are imported in this test, because the import takes seconds.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cloudcoil.models.keda.v1alpha1 import ScaledObject
        from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

    models: dict[str, Any] = {
        "PrometheusRule": PrometheusRule,
        "ScaledObject": ScaledObject,
        "ServiceMonitor": ServiceMonitor,
    }
    assert models.keys() == OF_OPERATORS - {"GRPCRoute"}
    seen = set()
    for chosen in CHOICES.values():
        for found in rendered(chosen).values():
            if model := models.get(found["kind"]):
                seen.add(found["kind"])
                found = copy.deepcopy(found)  # noqa: PLW2901 - what is changed below is shared
                # KEDA's own schema has it from 2.17 on; that of the models is older.
                assert (
                    found["spec"].get("fallback", {}).pop("behavior", "currentReplicasIfHigher")
                    == "currentReplicasIfHigher"
                )
                # The models drop unknown keys silently, so the result must equal the object.
                assert model.model_validate(found).model_dump(by_alias=True, exclude_unset=True, mode="json") == found
    assert seen == models.keys()


@pytest.mark.parametrize("chosen", CHOICES.values(), ids=CHOICES.keys())
class TestEveryChoice:
    def test_helm_lint_finds_nothing(self, chosen: dict[str, Any]) -> None:
        for version in (OLDEST, NEWEST):
            found = helm.lint(CHART, chosen, strict=True, kube_version=version)
            assert not [line for line in found["messages"] if "icon" not in json.dumps(line)], found

    def test_objects_are_valid_in_the_oldest_and_the_newest_kubernetes(self, chosen: dict[str, Any]) -> None:
        for found in rendered(chosen).values():
            assert found["metadata"]["namespace"] == "search"
            for version in (OLDEST, NEWEST) if found["kind"] not in OF_OPERATORS else ():
                kubernetes_validate.validate(found, version, strict=True)

    def test_labels_ports_and_volumes_fit_together(self, chosen: dict[str, Any]) -> None:
        objects = rendered(chosen)
        pod = objects["Deployment"]["spec"]["template"]
        labels, spec = pod["metadata"]["labels"], pod["spec"]
        ports = {port["name"]: port["containerPort"] for port in spec["containers"][0]["ports"]}
        selectors = [objects["Deployment"]["spec"]["selector"]["matchLabels"]]
        selectors += [objects[name]["spec"]["selector"] for name in ("Service", "Service/headless", "Service/metrics")]
        selectors += [
            objects[kind]["spec"]["selector"]["matchLabels"] for kind in ("PodDisruptionBudget",) if kind in objects
        ]
        for selector in selectors:
            assert selector.items() <= labels.items()
        for name in ("Service", "Service/headless", "Service/metrics"):
            for port in objects[name]["spec"]["ports"]:
                assert ports[port["targetPort"]] == port["port"]
        mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
        mounted |= {
            mount["name"] for container in spec.get("initContainers", []) for mount in container["volumeMounts"]
        }
        assert mounted == {volume["name"] for volume in spec["volumes"]}
        for container in (*spec["containers"], *spec.get("initContainers", [])):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"]
            assert not security["allowPrivilegeEscalation"]
            assert not container["image"].endswith(":latest")
            assert container["resources"]["limits"]["memory"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert not spec["automountServiceAccountToken"]
        server = spec["containers"][0]
        # what is in flight has its time after the pod has left the service
        pause = server["lifecycle"]["preStop"]["sleep"]["seconds"]
        [exit_timeout] = [
            int(one.partition("=")[2]) for one in server["args"] if one.startswith("--exit-timeout-secs=")
        ]
        assert spec["terminationGracePeriodSeconds"] > pause + exit_timeout
        if "ServiceMonitor" in objects:
            monitor = objects["ServiceMonitor"]["spec"]
            meant = objects["Service/metrics"]
            assert monitor["selector"]["matchLabels"].items() <= meant["metadata"]["labels"].items()
            assert monitor["endpoints"][0]["port"] in {port["name"] for port in meant["spec"]["ports"]}
            for name in ("Service", "Service/headless"):  # or each pod would count twice
                assert not monitor["selector"]["matchLabels"].items() <= objects[name]["metadata"]["labels"].items()


def test_disabled_parts_are_not_rendered() -> None:
    assert set(rendered({})) == {
        "ConfigMap/probe",
        "Deployment",
        "PodDisruptionBudget",
        "Pod/test",  # which only `helm test` makes
        "Secret/key",
        "Service",
        "Service/headless",
        "Service/metrics",
        "ServiceAccount",
    }
    bare = rendered(
        {
            "serviceAccount": {"create": False},
            "podDisruptionBudget": {"enabled": False},
            "probe": {"inference": False},
        }
    )
    assert set(bare) == {"Deployment", "Pod/test", "Secret/key", "Service", "Service/headless", "Service/metrics"}
    assert "PodDisruptionBudget" not in rendered({"replicas": 1})  # it would forbid to drain the node
    text = json.dumps(rendered({}))
    for absent in (
        "nvidia",
        "ssl",
        "trace-config",
        "initContainers",
        "/tls",
        "envoy",
        "monitoring.coreos.com",
        "gateway.networking",
    ):
        assert absent not in text


@pytest.mark.parametrize(
    ("chosen", "present"),
    [
        ({"gpu": {"enabled": True, "count": 2}}, ['"nvidia.com/gpu": 2', '"key": "nvidia.com/gpu"']),
        (
            {"tls": {"secret": "clip-tls"}},
            ["--grpc-use-ssl=true", "inference,metadata,model-config,statistics:tuwen=", '"secretName": "clip-tls"'],
        ),
        (
            {"tls": {"secret": "clip-tls", "mutual": True}},
            ["--grpc-use-ssl-mutual=true", "--grpc-root-cert=/tls/ca.crt"],
        ),
        ({"restricted": {"secret": "key"}}, ['"secretKeyRef": {"name": "key", "key": "key"}']),
        ({"tracing": {"enabled": True, "rate": 7}}, ["mode=opentelemetry", "rate=7"]),
        ({"server": {"maxConnectionAgeSeconds": 30}}, ["--grpc-max-connection-age=30000"]),
        ({"image": {"digest": f"sha256:{SHA256}"}}, [f"tuwen-server@sha256:{SHA256}"]),
        ({"server": {"modelControl": "explicit"}}, ["--model-control-mode=explicit", "--load-model=*"]),
        (VOLUME, ['"claimName": "clip-models", "readOnly": true', '"subPath": "v1"']),
        ({"autoscaling": {"engine": "keda"}}, ["ScaledObject", "nv_inference_pending_request_count"]),
        ({"autoscaling": {"engine": "hpa"}}, ["HorizontalPodAutoscaler", "tuwen_busy_share", "tuwen_queue_seconds"]),
        ({"models": {"fingerprint": "0" * 32}}, ["check-fingerprint", "if card.fingerprint != "]),
        ({"tls": {"secret": "a", "reloader": True}}, ['"secret.reloader.stakater.com/reload": "a"']),
        (
            {"gateway": {"enabled": True, "parents": [{"name": "public"}]}},
            ["GRPCRoute", '"parentRefs": [{"name": "public"}]'],
        ),
    ],
)
def test_enabled_parts_are_rendered(chosen: dict[str, Any], present: list[str]) -> None:
    text = json.dumps(rendered(chosen))
    for part in present:
        assert part in text
    if "autoscaling" in chosen:
        assert "replicas" not in rendered(chosen)["Deployment"]["spec"]  # or every upgrade would set them back


class TestSeveralModels:
    MODELS = (
        {"name": "b16", "source": "volume", "volume": {"claim": "clip-models", "path": "b16"}, "fingerprint": "0" * 32},
        {
            "name": "l14",
            "source": "download",
            "download": {"url": "https://m.example.com/l14.tar.gz", "sha256": SHA256},
        },
        {"name": "taiyi", "source": "oci", "oci": {"reference": "registry.example.com/taiyi:1"}},
        {"name": "baked"},
    )

    def test_one_server_serves_each_model_from_its_own_folder(self) -> None:
        pod = rendered({"models": list(self.MODELS)})["Deployment"]["spec"]["template"]["spec"]
        [server] = pod["containers"]
        folders = [argument for argument in server["args"] if argument.startswith("--model-repository=")]
        assert folders == [f"--model-repository=/models/{model['name']}" for model in self.MODELS]
        mounts = {mount["name"]: mount for mount in server["volumeMounts"] if mount["name"].startswith("models")}
        assert {mount["mountPath"] for mount in mounts.values()} == {"/models/b16", "/models/l14", "/models/taiyi"}
        assert mounts["models-b16"]["subPath"] == "b16"
        assert set(mounts) == {volume["name"] for volume in pod["volumes"] if volume["name"].startswith("models")}
        init = [container["name"] for container in pod["initContainers"]]
        assert init == ["download-models-l14", "check-fingerprint-b16"]
        assert "/models/b16/manifest.json" in json.dumps(pod["initContainers"][1])

    def test_every_model_is_tested_by_its_name(self) -> None:
        text = json.dumps(rendered({"models": list(self.MODELS)}))
        for model in self.MODELS:
            assert f'model=\\"{model["name"]}\\"' in text

    def test_a_list_of_one_model_equals_a_single_model(self) -> None:
        key = {"restricted": {"secret": "key"}}  # otherwise each rendering makes a random one
        assert rendered({**key, "models": [VOLUME["models"]]}) == rendered({**key, **VOLUME})

    def test_a_model_of_a_list_has_the_documented_defaults(self) -> None:
        values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["models"]
        key = {"restricted": {"secret": "key"}}
        assert rendered({**key, "models": [values]}) == rendered({**key, "models": [{}]}) == rendered(key)
        model = {"source": "download", "download": {"url": "https://m.example.com/a.tar.gz", "sha256": SHA256}}
        whole = {**values, **model, "download": {**values["download"], **model["download"]}}
        assert rendered({**key, "models": [model]}) == rendered({**key, "models": whole})

    def test_a_model_that_is_not_loaded_at_the_start_is_neither_loaded_nor_tested(self) -> None:
        models = [{"name": "b16"}, {"name": "l14", "loaded": False}]
        objects = rendered({"models": models, "server": {"modelControl": "explicit"}})
        [server] = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
        assert "--model-repository=/models/l14" in server["args"]
        loaded = [argument for argument in server["args"] if argument.startswith("--load-model=")]
        assert loaded == [f"--load-model=b16_{part}_embedding" for part in ("image", "pixel", "text")]
        assert 'model=\\"l14\\"' not in json.dumps(objects["Pod/test"])

    def test_a_pod_that_would_load_no_model_is_refused(self) -> None:
        models = [{"name": "b16", "loaded": False}]
        with pytest.raises(helm.HelmError, match="expected at least one model with loaded: true, got none"):
            rendered({"models": models, "server": {"modelControl": "explicit"}})

    @pytest.mark.parametrize(
        ("models", "message"),
        [
            ([{"name": "b16"}, {"name": "l14", "loaded": False}], "which takes server.modelControl: explicit"),
            ([], "at '/models': minItems"),
            ([{"name": "b16"}, {}], "each of several models needs a name"),
            ([{"name": "b16"}, {"name": "b16"}], 'two models have the name "b16"'),
            ([{"name": "B16"}], "at '/models/0/name'"),
            ([{"nam": "b16"}], "additional properties 'nam' not allowed"),
        ],
    )
    def test_rejects_wrong_lists(self, models: list[dict[str, Any]], message: str) -> None:
        with pytest.raises(helm.HelmError) as error:
            rendered({"models": models})
        assert message in str(error.value).replace("\\", "")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"replicas": 0}, "at '/replicas': minimum: got 0, want 1"),
        ({"replica": 2}, "additional properties 'replica' not allowed"),
        ({"models": {"source": "s3"}}, "value must be one of 'image', 'volume', 'download', 'oci'"),
        ({"models": {"source": "oci"}}, "models.oci.reference is missing"),
        ({"tls": {"mutual": True}}, "at '/tls/secret': minLength: got 0, want 1"),
        ({"autoscaling": {"engine": "hpa", "minReplicas": 9}}, "autoscaling.minReplicas (9) is above"),
        ({"autoscaling": {"engine": "hpa", "minReplicas": 0}}, "takes autoscaling.engine: keda"),
        ({"rollout": {"maxSurge": 0}}, "no pod could ever be replaced"),
        ({"rollout": {"maxSurge": "0%"}}, "no pod could ever be replaced"),
        ({"server": {"sharedMemoryMiB": 4096}}, "resources.limits.memory (4Gi) must be larger"),
        ({"resources": {"limits": {"memory": ""}}}, "at '/resources/limits/memory'"),
        ({"resources": {"requests": {"cpu": None}}}, "at '/resources/requests'"),
        ({"networkPolicy": {"enabled": True}, "tracing": {"enabled": True}}, "networkPolicy.egress must name"),
        ({"envoy": {"apiKeys": {"shop": "short"}}}, "at '/envoy/apiKeys/shop'"),
        ({"envoy": {"apiKeys": {"shop": "a" * 16}, "jwt": {"issuer": "a", "jwks": "{}"}}}, "exclude each other"),
        ({"envoy": {"jwt": {"issuer": "a"}}}, "at '/envoy/jwt'"),
        ({"gateway": {"enabled": True}}, "gateway.parents is missing"),
        ({"models": {"source": "download"}}, "models.download.url is missing"),
        ({"models": {"source": "volume"}}, "models.volume.claim is missing"),
        ({"image": {"digest": "latest"}}, "at '/image/digest'"),
        ({"autoscaling": {"engine": "magic"}}, "value must be one of 'none', 'hpa', 'keda'"),
        ({"gpu": {"enabled": "yes"}}, "got string, want boolean"),
        ({"server": {"extraArguments": ["verbose"]}}, "does not match pattern '^--'"),
        ({"server": {"modelControl": "poll"}}, "value must be one of 'none', 'explicit'"),
        ({"image": {"registry": "ghcr.io/tuwen-project/"}}, "at '/image/registry'"),
    ],
)
def test_rejects_wrong_values_and_names_their_place(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(helm.HelmError) as error:
        rendered(chosen)
    assert message in str(error.value)


def test_the_default_images_are_those_that_a_release_publishes() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    source = re.search(r'^Source = "https://github\.com/([^/]+)/', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert source is not None
    published = {
        f"{workflow['env']['REGISTRY']}/{source[1].lower()}/tuwen-{name}"
        for name in workflow["jobs"]["images"]["strategy"]["matrix"]["image"]
    }
    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    text = json.dumps(rendered({"httpEdge": {"enabled": True}}))
    ours = {name for name in re.findall(r'"image": "([^"]+)"', text) if "tuwen" in name}
    assert ours == {f"{name}:{version}" for name in published if not name.endswith("-cpu")}
    cpu = json.dumps(rendered({"image": {"repository": "tuwen-cpu"}}))
    assert f'"{next(name for name in published if name.endswith("-cpu"))}:{version}"' in cpu


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ({"registry": "mirror.example.com/clip"}, "mirror.example.com/clip/tuwen-server:1"),
        ({"repository": "registry.example.com/clip"}, "registry.example.com/clip:1"),
        ({"registry": ""}, "tuwen-server:1"),
    ],
    ids=["another registry", "a whole name", "an image of the node"],
)
def test_the_registry_stands_before_names_without_a_slash(image: dict[str, str], name: str) -> None:
    [server] = rendered({"image": {**image, "tag": "1"}})["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert server["image"] == name


def test_every_value_is_known_to_the_schema() -> None:
    def names(schema: dict[str, Any], defaults: dict[str, Any], at: str = "") -> Iterator[str]:
        properties = schema.get("properties", {})
        for name, default in defaults.items():
            if name not in properties:
                yield f"{at}/{name}"
            elif isinstance(default, dict) and properties[name].get("additionalProperties") is False:
                yield from names(properties[name], default, f"{at}/{name}")
        yield from (f"{at}/{name}" for name in properties.keys() - defaults.keys() - {"global"})

    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert list(names(schema, defaults)) == []


def test_labels_and_ports_of_the_edge_fit_together() -> None:
    objects = rendered(EVERYTHING)
    pod = objects["Deployment/envoy"]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    for selector in (
        objects["Deployment/envoy"]["spec"]["selector"]["matchLabels"],
        objects["Service/envoy"]["spec"]["selector"],
        objects["PodDisruptionBudget/envoy"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["ingress"][0]["from"][-1]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
        assert not selector.items() <= objects["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    [container] = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    config = yaml.safe_load(objects["Secret/envoy"]["stringData"]["envoy.yaml"])["static_resources"]
    assert {one["name"]: one["address"]["socket_address"]["port_value"] for one in config["listeners"]} == ports
    [endpoint] = config["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    service = objects["Service/headless"]
    assert address["address"] == f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    assert address["port_value"] == service["spec"]["ports"][0]["port"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > container["lifecycle"]["preStop"]["sleep"]["seconds"]


def test_the_key_of_a_release_is_random_and_in_a_secret() -> None:
    keys = set()
    for name in ("clip", "other"):
        objects = rendered({}, name)
        keys.add(objects["Secret/key"]["data"]["key"])
        assert "metadata.uid" not in json.dumps(objects)
        assert f'"secretKeyRef": {{"name": "{name}-tuwen-key", "key": "key"}}' in json.dumps(objects)
    assert len(keys) == 2
    assert all(len(base64.b64decode(key)) >= 32 for key in keys)
    assert "Secret/key" not in rendered({"restricted": {"secret": "mine"}})


def test_pods_may_only_connect_to_named_peers() -> None:
    for name, found in rendered(EVERYTHING).items():
        if name.startswith("NetworkPolicy"):
            for rule in found["spec"]["egress"]:
                assert rule["to"], name
                assert rule["ports"], name
                assert {} not in rule["to"]
                assert {"namespaceSelector": {}} not in rule["to"]


def test_threads_follow_the_request_of_the_pod() -> None:
    [container] = rendered({})["Deployment"]["spec"]["template"]["spec"]["containers"]
    found = {
        one["name"]: one["valueFrom"] for one in container["env"] if "resourceFieldRef" in one.get("valueFrom", {})
    }
    reference = {"containerName": container["name"], "resource": "requests.cpu", "divisor": "1"}
    assert found == {name: {"resourceFieldRef": reference} for name in ("DECODE_THREADS", "OMP_NUM_THREADS")}


def test_a_rollout_has_time_for_pulling_and_loading() -> None:
    spec = rendered(EVERYTHING)["Deployment"]["spec"]
    [container] = spec["template"]["spec"]["containers"]
    probe = container["startupProbe"]
    assert spec["progressDeadlineSeconds"] > 3600 + probe["periodSeconds"] * probe["failureThreshold"]
    assert spec["minReadySeconds"] > 0
    assert rendered({})["PodDisruptionBudget"]["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_openshift_chooses_the_ids_itself() -> None:
    free = {"securityContext": dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"))}
    context = rendered(free)["Deployment"]["spec"]["template"]["spec"]["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_an_oci_image_is_mounted_as_the_repository() -> None:
    chosen = {"models": {"source": "oci", "oci": {"reference": "registry.example.com/models:1", "path": "v1"}}}
    found = rendered(chosen)["Deployment"]
    kubernetes_validate.validate(found, NEWEST, strict=True)
    assert "registry.example.com/models:1" in json.dumps(found["spec"]["template"]["spec"]["volumes"])


def test_rules_and_dashboard_select_one_release(tmp_path: Path) -> None:
    chosen = {"monitoring": {"rules": True, "dashboard": True, "objectiveSeconds": 0.25, "availability": 0.99}}
    specs, boards = [], []
    for name in ("clip", "clip-2"):
        objects = rendered(chosen, name)
        spec = objects["PrometheusRule"]["spec"]
        text = json.dumps(spec)
        assert "0.25 * group" in text
        assert "0.99 * group" in text
        ours = rf"job=\"tuwen\",namespace=\"search\",service=\"{name}-tuwen-metrics\",release=\"{name}\""
        assert text.count("job=") == text.count(ours) > 10
        assert not {"NAMESPACE", "NAME", "SECRET"} & set(re.findall(r"[A-Z]+", text))
        labels = {"namespace": "search", "service": f"{name}-tuwen-metrics", "release": name}
        for group in spec["groups"]:
            assert all(labels.items() <= rule["labels"].items() for rule in group["rules"])
        specs.append(spec)
        boards.append(json.loads(objects["ConfigMap/dashboard"]["data"][f"{name}-tuwen.json"]))
        if promtool := program("promtool"):
            (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
            subprocess.run([promtool, "check", "rules", tmp_path / "rules.yaml"], check=True, stdout=subprocess.DEVNULL)
    assert boards[0]["uid"] != boards[1]["uid"]
    assert boards[0]["title"] != boards[1]["title"]


def test_both_probes_compute_in_every_model() -> None:
    objects = rendered({})
    [server] = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    for name, patience in (("readinessProbe", "30"), ("livenessProbe", "90")):
        probe = server[name]
        assert probe["exec"]["command"] == ["python3", "/probe/probe.py", "8", patience]
        assert probe["timeoutSeconds"] > 8
    script = objects["ConfigMap/probe"]["data"]["probe.py"]
    assert script.strip() == (CHART / "files" / "probe.py").read_text(encoding="utf-8").strip()
    [server] = rendered({"probe": {"inference": False}})["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert server["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"


@pytest.mark.parametrize(("output", "code"), [("GPU 0: H100 (UUID: GPU-1)", 0), ("No devices found.", 1), ("", 1)])
def test_a_pod_that_asks_for_a_gpu_fails_without_one(tmp_path: Path, output: str, code: int) -> None:
    spec = rendered({"gpu": {"enabled": True}})["Deployment"]["spec"]["template"]["spec"]
    [check] = [one for one in spec["initContainers"] if one["name"] == "check-gpu"]
    assert check["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert check["image"] == spec["containers"][0]["image"]
    if output:  # an empty output: the program is missing
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\necho '{output}'\n", encoding="utf-8")
        program.chmod(0o755)
    command = [*check["command"], *check["args"]]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == code
    assert ("expected a GPU, got none" in done.stdout) == bool(code)
    assert "initContainers" not in rendered({})["Deployment"]["spec"]["template"]["spec"]
