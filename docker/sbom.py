"""Write the bills of materials of the images, in CycloneDX's JSON: locked packages, our wheel, and the base image.

    python docker/sbom.py [IMAGE ...] [--output FOLDER] [--base IMAGE]

The Dockerfiles and ``make sbom`` run this program. It needs cyclonedx-bom, which `locks/wheel.txt` pins.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

__all__ = ["IMAGES", "bill", "main"]

_ROOT = Path(__file__).resolve().parents[1]
_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True)
class Image:
    """The contents of an image beside its base image.

    Attributes:
        base: the build argument that names the base image in the Dockerfile.
        wheel: whether our wheel is installed.
        further: further files of pinned packages, beside the image's lock.
    """

    base: str
    wheel: bool = True
    further: tuple[str, ...] = ()


IMAGES = {
    "server": Image("TRITON", wheel=False),
    "cpu": Image("PYTHON", further=("build/tuwen_server/packages.txt",)),
    "client": Image("PYTHON"),
    "edge": Image("PYTHON"),
}


def bill(name: str, base: str | None = None) -> str:
    """Return the bill of materials of an image.

    Args:
        name: the name of the image, without ``tuwen-``.
        base: the base image; None: the default in the Dockerfile.

    Raises:
        ValueError: cyclonedx-py failed, or the bill does not follow CycloneDX's schema.
    """
    image = IMAGES[name]
    pinned = [_ROOT / "docker" / "locks" / f"{name}.txt", *(_ROOT / more for more in image.further)]
    found = _listed("".join(path.read_text(encoding="utf-8") for path in pinned))
    root = found["metadata"]["component"]
    components = [_component(one) for one in found["components"]]
    if image.wheel:
        components.append(_package("tuwen", root["version"]) | {"licenses": root["licenses"]})
    components.append(_base(base or _argument(name, image.base)))
    root |= {"type": "container", "name": f"tuwen-{name}"}
    found["components"] = sorted(components, key=lambda one: str(one["bom-ref"]))
    references = [one["bom-ref"] for one in found["components"]]
    found["dependencies"] = [{"ref": root["bom-ref"], "dependsOn": references}, *({"ref": one} for one in references)]
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    _check(text)
    return text


def _listed(requirements: str) -> dict[str, Any]:
    """Return the bill that cyclonedx-py makes from a file of pinned packages."""
    command = [
        sys.executable,
        "-m",
        "cyclonedx_py",
        "requirements",
        "-",
        "--output-reproducible",
        "--spec-version",
        "1.6",
    ]
    command += ["--pyproject", str(_ROOT / "pyproject.toml")]
    done = subprocess.run(command, input=requirements, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise ValueError(f"cyclonedx-py failed: {done.stderr}")
    listed: dict[str, Any] = json.loads(done.stdout)
    return listed


def _component(listed: dict[str, Any]) -> dict[str, Any]:
    [distribution] = listed["externalReferences"]
    url = distribution["url"]
    if "+cpu" in listed["version"]:
        url = f"{_CPU_INDEX}/{listed['name']}/"
    kept = {"type": "distribution", "url": url, "hashes": distribution["hashes"]}
    return _package(listed["name"], listed["version"]) | {"externalReferences": [kept]}


def _package(name: str, version: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _base(reference: str) -> dict[str, Any]:
    """Return the component of the base image, which has a bill of its own."""
    name, mark, version = reference.rpartition("@") if "@" in reference else reference.rpartition(":")
    if not mark:
        name, version = reference, "latest"
    registry, slash, path = name.partition("/")
    if not slash or not re.search(r"[.:]", registry):
        registry, path = "docker.io", name if slash else f"library/{name}"
    purl = f"pkg:docker/{path}@{version.replace(':', '%3A')}?repository_url={registry}"
    return {"type": "container", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _argument(name: str, argument: str) -> str:
    recipe = (_ROOT / "docker" / f"{name}.Dockerfile").read_text(encoding="utf-8")
    [value] = re.findall(rf"^ARG {argument}=(\S+)$", recipe, re.MULTILINE)
    return str(value)


def _check(text: str) -> None:
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        raise ValueError(f"the bill of materials does not follow CycloneDX 1.6: {error}")


def main(arguments: list[str] | None = None) -> None:
    """Write a file ``tuwen-IMAGE.cdx.json`` for each image."""
    parser = argparse.ArgumentParser(description="Write bills of materials in CycloneDX's JSON.")
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help=f"Image, one of {', '.join(IMAGES)}. Default: all images."
    )
    parser.add_argument(
        "--output", type=Path, default=_ROOT / "dist" / "sbom", help="Folder for the files. Default: dist/sbom."
    )
    parser.add_argument("--base", help="Base image. Default: the base image in the Dockerfile.")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.images) - IMAGES.keys():
        parser.error(f"expected {', '.join(IMAGES)}, got {', '.join(sorted(unknown))}")
    chosen.output.mkdir(parents=True, exist_ok=True)
    for name in chosen.images or IMAGES:
        path = chosen.output / f"tuwen-{name}.cdx.json"
        path.write_text(bill(name, chosen.base), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
