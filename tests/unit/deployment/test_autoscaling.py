"""The chart's autoscaling: its queries to Prometheus, and simulated fleets that must reach a steady size."""

from __future__ import annotations

import json
from typing import Any

import pytest

helm = pytest.importorskip("helm_python", reason="the package of Helm exists for Linux only")

from tests.support.chart import rendered  # noqa: E402
from tests.support.fluid import Scaler, follow  # noqa: E402

LOADS = [3, 6, 10]
REQUESTS_A_SECOND = 20  # of a pod, for the rule that counts requests
KEDA = {"autoscaling": {"engine": "keda", "maxReplicas": 16}}


def scaler() -> Scaler:
    """Return the rendered settings of the autoscaler."""
    spec = rendered(KEDA)["ScaledObject"]["spec"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    busy, queue = (float(trigger["metadata"]["threshold"]) for trigger in spec["triggers"])
    return Scaler(
        triggers=((busy, lambda busy, _, __: busy), (queue, lambda _, queue, __: queue)),
        fewest=spec["minReplicaCount"],
        most=spec["maxReplicaCount"],
        up=behavior["scaleUp"]["stabilizationWindowSeconds"],
        down=behavior["scaleDown"]["stabilizationWindowSeconds"],
        poll=spec["pollingInterval"],
    )


@pytest.mark.parametrize("load", LOADS)
def test_a_fleet_under_constant_load_comes_to_rest(load: int) -> None:
    outcome = follow(scaler(), load)
    assert outcome.changes <= 5
    assert outcome.refused <= 0.005


@pytest.mark.parametrize("load", LOADS)
def test_a_fleet_that_follows_the_queue_alone_never_comes_to_rest(load: int) -> None:
    """A fleet whose size follows the length of its queue alone never reaches a steady size.

    An earlier chart scaled by the queue alone. The simulation would detect a return to that rule.
    """
    old = Scaler(triggers=((32, lambda _, queue, __: queue * REQUESTS_A_SECOND),))
    outcome = follow(old, load)
    assert outcome.changes > 70
    assert outcome.refused > 0.05


def test_every_query_counts_this_release_alone() -> None:
    for chosen in (KEDA, sleeping()):
        for trigger in rendered(chosen)["ScaledObject"]["spec"]["triggers"]:
            query = trigger["metadata"]["query"]
            assert query.count("{") == query.count('{namespace="search",service="clip-tuwen-')
            assert '=~"clip-tuwen' not in query


def test_an_unreachable_prometheus_changes_nothing() -> None:
    spec = rendered(KEDA)["ScaledObject"]["spec"]
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
    for trigger in spec["triggers"]:
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        assert "vector(0)" not in trigger["metadata"]["query"]  # it would show a fleet without metrics as idle
        assert trigger["metadata"]["serverAddress"].endswith(".svc.cluster.local:9090")


def test_the_credentials_for_prometheus_can_be_named() -> None:
    spec = rendered({"autoscaling": {"engine": "keda", "authentication": "prometheus"}})["ScaledObject"]["spec"]
    assert [trigger["authenticationRef"] for trigger in spec["triggers"]] == [{"name": "prometheus"}] * 2
    assert "authenticationRef" not in json.dumps(rendered(KEDA)["ScaledObject"])


def sleeping() -> dict[str, Any]:
    return {
        "autoscaling": {"engine": "keda", "minReplicas": 0},
        "envoy": {"enabled": True},
        "monitoring": {"serviceMonitor": True},
    }


def test_a_fleet_without_pods_wakes_up_when_envoy_is_called() -> None:
    spec = rendered(sleeping())["ScaledObject"]["spec"]
    assert spec["minReplicaCount"] == 0
    assert spec["fallback"]["replicas"] == 1
    assert "envoy_http_downstream_rq_total" in spec["triggers"][-1]["metadata"]["query"]
    # The probes keep the encoders a little busy, which must not keep the last pod awake.
    assert [float(trigger["metadata"]["activationThreshold"]) for trigger in spec["triggers"]] == [0.1, 0.1, 0.0]
    with pytest.raises(helm.HelmError, match="only Envoy's metrics show"):
        rendered({"autoscaling": {"engine": "keda", "minReplicas": 0}})


def test_both_engines_have_the_same_targets() -> None:
    hpa = rendered({"autoscaling": {"engine": "hpa"}})["HorizontalPodAutoscaler"]["spec"]["metrics"]
    targets = [int(metric["pods"]["target"]["averageValue"].removesuffix("m")) / 1000 for metric in hpa]
    assert targets == [threshold for threshold, _ in scaler().triggers]
