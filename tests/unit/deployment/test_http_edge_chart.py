"""The HTTP edge in the chart and in compose: the objects fit together, and `tuwen edge` accepts the command line."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
import typer
import yaml

helm = pytest.importorskip("helm_python", reason="the package of Helm exists for Linux only")
import kubernetes_validate  # noqa: E402

from tests.support.chart import CHART, EVERYTHING, rendered  # noqa: E402
from tests.support.paths import ROOT  # noqa: E402
from tuwen_cli.main import _app  # noqa: E402

DEFAULT: dict[str, Any] = {"httpEdge": {"enabled": True}}
ALL: dict[str, Any] = EVERYTHING | {
    "httpEdge": {
        "enabled": True,
        "modelName": "clip",
        "keysSecret": "edge-keys",
        "tlsSecret": "edge-tls",
        "hosts": ["clip.example.com"],
        "fetchHosts": ["img.example.com"],
        "annotations": {"a": "b"},
        "extraArguments": ["--alias=text-embedding-3-small"],
        "autoscaling": {"enabled": True},
    }
}
CHOICES = pytest.mark.parametrize("chosen", [DEFAULT, ALL], ids=["default", "all"])


def parsed(arguments: list[str]) -> dict[str, Any]:
    """Return the options of `tuwen edge` after its command line was parsed."""
    group = typer.main.get_command(_app)
    place = arguments.index("edge")
    group.make_context("tuwen", arguments[:place], resilient_parsing=True)
    command = group.commands["edge"]  # type: ignore[attr-defined]
    found: dict[str, Any] = command.make_context("edge", arguments[place + 1 :]).params
    return found


@CHOICES
def test_objects_are_valid(chosen: dict[str, Any]) -> None:
    for version in ("1.30", "1.37"):
        messages = helm.lint(CHART, chosen, strict=True, kube_version=version)["messages"]
        assert not [line for line in messages if "icon" not in str(line)]
        for found in rendered(chosen).values():
            if "-http" in found["metadata"]["name"] and found["kind"] != "ServiceMonitor":
                kubernetes_validate.validate(found, version, strict=True)


@CHOICES
def test_the_command_line_exists_and_names_the_servers(chosen: dict[str, Any]) -> None:
    objects = rendered(chosen)
    [container] = objects["Deployment/http"]["spec"]["template"]["spec"]["containers"]
    options = parsed([*container["command"][1:], *container["args"]])
    headless = objects["Service/headless"]["metadata"]
    assert options["url"] == f"dns:///{headless['name']}.{headless['namespace']}.svc:8001"
    assert options["port"] == container["ports"][0]["containerPort"]
    service = objects["Service/http"]["metadata"]
    assert f"{service['name']}.{service['namespace']}.svc" in options["allowed_hosts"]
    if chosen is ALL:
        assert str(options["keys"]) == "/keys/keys"
        assert options["fetch_hosts"] == ["img.example.com"]
        assert options["tracing"]
        assert container["command"][1:-1] == ["--ca=/tls/ca.crt", "--certificate=/tls/tls.crt", "--key=/tls/tls.key"]


@CHOICES
def test_labels_ports_volumes_and_times_fit_together(chosen: dict[str, Any]) -> None:
    objects = rendered(chosen)
    pod = objects["Deployment/http"]["spec"]["template"]
    labels, spec = pod["metadata"]["labels"], pod["spec"]
    selectors = [
        objects["Deployment/http"]["spec"]["selector"]["matchLabels"],
        objects["Service/http"]["spec"]["selector"],
        objects["PodDisruptionBudget/http"]["spec"]["selector"]["matchLabels"],
    ]
    server = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not selector.items() <= server.items()
    [container] = spec["containers"]
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in spec["volumes"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert spec["terminationGracePeriodSeconds"] > container["lifecycle"]["preStop"]["sleep"]["seconds"] + 30
    memory = int(container["resources"]["limits"]["memory"].removesuffix("Mi"))
    assert memory >= 2 * 512  # the bodies in memory, and what becomes of them


def test_the_edge_scales_on_its_own_and_may_call_the_server() -> None:
    objects = rendered(ALL)
    assert "replicas" not in objects["Deployment/http"]["spec"]
    assert objects["HorizontalPodAutoscaler/http"]["spec"]["scaleTargetRef"]["name"] == "clip-tuwen-http"
    [policy] = [found["spec"] for found in objects.values() if found["metadata"]["name"] == "clip-tuwen-http-to-server"]
    assert (
        policy["podSelector"]["matchLabels"].items()
        <= objects["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    )
    [peer] = policy["ingress"][0]["from"]
    edge = objects["Deployment/http"]["spec"]["template"]["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"].items() <= edge.items()
    monitor = objects["ServiceMonitor/http"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= objects["Service/http"]["metadata"]["labels"].items()


def egress_rules(chosen: dict[str, Any]) -> list[dict[str, Any]]:
    policies = rendered(EVERYTHING | chosen).values()
    [spec] = [
        found["spec"]
        for found in policies
        if found["metadata"]["name"] == "clip-tuwen-http" and "egress" in found["spec"]
    ]
    rules: list[dict[str, Any]] = spec["egress"]
    return rules


def test_the_edge_reaches_only_dns_the_server_and_the_trace_collector() -> None:
    edge = ALL["httpEdge"] | {"fetchHosts": []}
    names, server, collector = egress_rules({"httpEdge": edge})
    assert {port["port"] for port in names["ports"]} == {53}
    assert names["to"]
    assert [port["port"] for port in server["ports"]] == ["grpc"]
    assert collector == EVERYTHING["networkPolicy"]["egress"][0]
    assert len(egress_rules({"httpEdge": edge, "tracing": {"enabled": False}})) == 2


@pytest.mark.parametrize(
    "private", ["10.1.2.3", "100.64.0.1", "169.254.169.254", "172.16.0.1", "192.168.1.1", "fd00::1"]
)
def test_the_edge_fetches_images_from_public_addresses_alone(private: str) -> None:
    blocks = [one["ipBlock"] for one in egress_rules(ALL)[-1]["to"]]
    assert [block["cidr"] for block in blocks] == ["0.0.0.0/0", "::/0"]
    networks = [ipaddress.ip_network(network) for block in blocks for network in block["except"]]
    address = ipaddress.ip_address(private)
    assert any(address in network for network in networks if network.version == address.version)
    assert not any(ipaddress.ip_address("203.0.113.9") in network for network in networks if network.version == 4)


def test_a_disabled_edge_renders_nothing() -> None:
    assert not [name for name in rendered(EVERYTHING) if "/http" in name]


def test_encryption_without_an_authority_is_refused() -> None:
    with pytest.raises(Exception, match=r"httpEdge\.tlsSecret is missing"):
        rendered(EVERYTHING | {"httpEdge": {"enabled": True}})


def test_the_service_of_compose_has_a_command_line_that_exists() -> None:
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["edge"]
    options = parsed(["edge", "--host", "0.0.0.0", *service["command"]])
    assert options["url"] == "server:8001"
    assert service["ports"] == [f"127.0.0.1:{options['port']}:{options['port']}"]
    recipe = (ROOT / "docker" / "edge.Dockerfile").read_text(encoding="utf-8")
    assert 'ENTRYPOINT ["tuwen", "edge", "--host", "0.0.0.0"]' in recipe
