"""The Helm chart, rendered by Helm itself."""

from __future__ import annotations

import functools
import json
from typing import Any

import yaml

from tests.support.paths import ROOT

__all__ = ["CHART", "EVERYTHING", "SHA256", "VOLUME", "rendered"]

CHART = ROOT / "docker" / "kubernetes"
SHA256 = "0" * 64
EVERYTHING: dict[str, Any] = {
    "image": {"digest": f"sha256:{SHA256}", "pullSecrets": [{"name": "registry"}]},
    "models": {
        "source": "download",
        "download": {"url": "https://models.example.com/a.tar.gz", "sha256": SHA256, "headersSecret": "token"},
        "fingerprint": "0" * 32,
    },
    "gpu": {"enabled": True, "runtimeClassName": "nvidia"},
    "tls": {"secret": "clip-tls", "mutual": True, "reloader": True},
    "restricted": {"secret": "clip-key"},
    "tracing": {"enabled": True},
    "autoscaling": {"engine": "hpa"},
    "networkPolicy": {
        "enabled": True,
        "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 443, "protocol": "TCP"}]}],
        "clients": [{"namespaceSelector": {"matchLabels": {"team": "search"}}}],
    },
    "monitoring": {"serviceMonitor": True, "rules": True, "dashboard": True, "labels": {"release": "prometheus"}},
    "envoy": {
        "enabled": True,
        "annotations": {"a": "b"},
        "apiKeys": {"shop": "the-key-of-the-shop"},
        "rateLimit": {"requestsPerSecond": 100},
        "nodeSelector": {"pool": "edge"},
        "tolerations": [{"key": "edge", "operator": "Exists"}],
    },
    "gateway": {"enabled": True, "parents": [{"name": "public"}], "hostnames": ["clip.example.com"]},
    "extraEnv": [{"name": "A", "value": "b"}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "service": {"annotations": {"a": "b"}},
    "serviceAccount": {"annotations": {"a": "b"}},
    "server": {"extraArguments": ["--log-verbose=1"]},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "search"},
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "priorityClassName": "high",
}
VOLUME = {"models": {"source": "volume", "volume": {"claim": "clip-models", "path": "v1"}}}


def rendered(chosen: dict[str, Any], name: str = "clip") -> dict[str, dict[str, Any]]:
    """Return the objects that the chart renders for some values. Do not change the objects, because calls share them.

    Args:
        chosen: the chart's values that differ from the defaults.
        name: the name of the release.

    Returns:
        the objects by their kind and the end of their name, such as ``Service/headless``.
    """
    return _rendered(json.dumps(chosen), name)


@functools.cache
def _rendered(chosen: str, release: str) -> dict[str, dict[str, Any]]:
    from helm_python import Chart  # published for Linux only

    objects: dict[str, dict[str, Any]] = {}
    for file, text in Chart.load(CHART).render(json.loads(chosen), name=release, namespace="search").items():
        if file.endswith("NOTES.txt"):
            continue
        for found in filter(None, yaml.safe_load_all(text)):
            suffix = found["metadata"]["name"].removeprefix(f"{release}-tuwen").replace("-", "/")
            assert found["kind"] + suffix not in objects
            objects[found["kind"] + suffix] = found
    return objects
