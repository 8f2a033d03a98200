"""The oldest Triton release with all fixes from NVIDIA's security bulletins, and a check of a server's version."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

from tuwen_cli.connection import settings

__all__ = ["outdated", "running_version", "version_parts"]


def outdated(version: str) -> str | None:
    """Return a warning about an old version of Triton; None if the version has every fix or cannot be parsed.

    Args:
        version: the version that the server states, such as ``2.75.0``.
    """
    known: dict[str, Any] = json.loads((files("tuwen_cli") / "security_floor.json").read_text(encoding="utf-8"))
    floor = known["floor"]
    if (mine := version_parts(version)) is None or mine >= (version_parts(floor["triton"]) or ()):
        return None
    return (
        f"Triton {version} has known vulnerabilities: use release {floor['release']} (Triton {floor['triton']}) or "
        "newer where others can reach the server"
    )


def running_version(url: str, timeout: float) -> str | None:
    """Return the version that the server at an address states; None if the server cannot be reached."""
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    from tuwen.connection import channel_options, channel_target

    tls, headers = settings()
    target = channel_target(url)
    with InferenceServerClient(
        target,
        ssl=tls is not None,
        creds=tls.credentials() if tls else None,
        channel_args=channel_options(target, tls),
    ) as triton:
        try:
            found = triton.get_server_metadata(headers=dict(headers or {}), client_timeout=timeout)
        except InferenceServerException:  # a proxy may allow nothing but inference
            return None
    return str(found.version)


def version_parts(version: str) -> tuple[int, int] | None:
    """Return the first two numbers of a version; None if the version cannot be parsed."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None
