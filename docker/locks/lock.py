"""Write the lock files of the images: every package at one version, with the SHA-256 of its wheels.

    python docker/locks/lock.py [IMAGE ...]

constraints.txt sets the version of a package. A package without an entry there has the newest version that fits. The
program needs Python 3.11 and pip 23.1 or newer. For the CPU image, PIP_EXTRA_INDEX_URL must name PyTorch's CPU index.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tomllib

__all__: list[str] = []

_ROOT = Path(__file__).parents[2]
_NAME = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class _Image:
    """The packages of an image.

    Attributes:
        why: the first line of the lock file, which says what the packages are for.
        python: the version of Python.
        machines: the machine types that the image is built for.
        extras: the extras of tuwen, with their dependencies; None: the image does not contain the SDK.
        whole: further requirements, with their dependencies.
        alone: requirements without their dependencies.
        given: packages of the base image, with their dependencies.
    """

    why: str
    python: str
    machines: tuple[str, ...] = ("x86_64", "aarch64")
    extras: tuple[str, ...] | None = None
    whole: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    given: tuple[str, ...] = ()


_IMAGES = {
    "wheel": _Image(
        "The packages that build our wheel and the bill of materials, in the first step of every image.",
        python="3.11",
        whole=("cyclonedx-bom", "hatchling"),
    ),
    "server": _Image(
        "The packages that our Python models import inside NVIDIA's image, beside its own numpy.",
        python="3.12",
        alone=("ftfy", "pillow", "tokenizers", "wcwidth"),
    ),
    "export": _Image(
        "The packages that build a repository inside NVIDIA's pytorch image, beside its own torch and numpy.",
        python="3.12",
        extras=("build",),
        given=("torch", "numpy"),
    ),
    "cpu": _Image(
        "The packages that serve on a CPU. packages.txt pins the server itself.",
        python="3.11",
        machines=("x86_64",),
        extras=(),
        whole=("ftfy", "psutil", "torch"),
        alone=("tokenizers",),
    ),
    "client": _Image(
        "The SDK, its command and the load tests.",
        python="3.11",
        extras=("loadtest", "parquet", "tracing"),
    ),
    "edge": _Image(
        "The HTTP edge, which speaks the interfaces of other services.",
        python="3.11",
        extras=("edge", "tracing"),
    ),
}


def _requirements(image: _Image) -> list[str]:
    if image.extras is None:
        return list(image.whole)
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [*project["dependencies"], *image.whole]
    for extra in image.extras:
        found += project["optional-dependencies"][extra]
    return [one for one in found if _NAME.match(one)[0] not in image.given]  # type: ignore[index]


def _resolved(image: _Image, machine: str, requirements: list[str], *options: str) -> dict[str, tuple[str, str]]:
    """Return the version and the hashes of each package, by the name of the package."""
    if not requirements:
        return {}
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    command += ["--target", "/nonexistent", "--only-binary", ":all:", "--python-version", image.python]
    for minor in range(36, 16, -1):  # pip does not derive the older platforms from a newer one
        command += ["--platform", f"manylinux_2_{minor}_{machine}"]
    command += ["--platform", f"manylinux2014_{machine}", "--constraint", str(_ROOT / "constraints.txt")]
    done = subprocess.run([*command, *options, *requirements], stdout=subprocess.PIPE, text=True, check=True)
    return {
        item["metadata"]["name"].lower().replace("_", "-").replace(".", "-"): (
            item["metadata"]["version"],
            item["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for item in json.loads(done.stdout)["install"]
    }


def _lock(name: str, image: _Image) -> None:
    hashes: dict[tuple[str, str], set[str]] = {}
    for machine in image.machines:
        found = _resolved(image, machine, _requirements(image))
        found |= _resolved(image, machine, list(image.alone), "--no-deps")
        for package, (version, digest) in found.items():
            if package not in image.given:
                hashes.setdefault((package, version), set()).add(digest)
    lines = [f"# {image.why}", "# Made by lock.py."]
    for (package, version), digests in sorted(hashes.items()):
        lines.append(" \\\n    ".join([f"{package}=={version}", *(f"--hash=sha256:{one}" for one in sorted(digests))]))
    Path(__file__).with_name(f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{name}: {len(hashes)} packages")  # noqa: T201


if __name__ == "__main__":
    for chosen in sys.argv[1:] or _IMAGES:
        _lock(chosen, _IMAGES[chosen])
