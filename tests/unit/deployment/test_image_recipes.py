"""The Dockerfiles of the images: hadolint accepts them, and they pin the tested versions."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.paths import ROOT

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
COMPOSE = ROOT / "docker" / "compose.yaml"
LOCKS = sorted((ROOT / "docker" / "locks").glob("*.txt"))


@pytest.mark.parametrize("recipe", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(recipe: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, "--no-color", recipe], capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_an_image_installs_the_versions_that_are_tested(lock: Path) -> None:
    pins = re.compile(r"^([a-z0-9-]+)==([^\s\\]+)", re.MULTILINE)
    tested = dict(pins.findall((ROOT / "constraints.txt").read_text(encoding="utf-8")))
    locked = dict(pins.findall(lock.read_text(encoding="utf-8")))
    assert locked
    common = locked.keys() & tested.keys()
    assert {name: tested[name] for name in common} == {name: locked[name].partition("+")[0] for name in common}
    for pin in re.split(r"\n(?=[a-z])", lock.read_text(encoding="utf-8"))[1:]:
        assert "--hash=sha256:" in pin


def test_the_cpu_image_has_every_package_that_serving_needs() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    needed = {re.split(r"[<>=;\[ ]", requirement)[0] for requirement in extras["serve"]}
    lock = (ROOT / "docker" / "locks" / "cpu.txt").read_text(encoding="utf-8")
    assert needed <= set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))


@pytest.mark.parametrize("recipe", DOCKERFILES, ids=lambda path: path.name)
def test_the_tools_that_build_the_wheel_are_locked(recipe: Path) -> None:
    stage = recipe.read_text(encoding="utf-8").partition("AS wheel")[2].partition("\nFROM")[0].replace("\\\n", " ")
    steps = [step.split() for step in re.findall(r"pip (?:install|wheel)[^&\n]*", stage)]
    assert [step[1] for step in steps] == ["install", "wheel"]
    assert {"--require-hashes", "docker/locks/wheel.txt"} <= set(steps[0])
    assert "--no-build-isolation" in steps[1]
    locked = (ROOT / "docker" / "locks" / "wheel.txt").read_text(encoding="utf-8")
    assert re.search(r"^hatchling==", locked, re.MULTILINE)


@pytest.mark.parametrize("recipe", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_carries_the_bill_of_its_materials(recipe: Path) -> None:
    name = recipe.name.removesuffix(".Dockerfile")
    stages = re.split(r"^FROM ", recipe.read_text(encoding="utf-8"), flags=re.MULTILINE)
    [wheel] = [stage for stage in stages if "AS wheel\n" in stage]
    [argument] = re.findall(
        rf'^RUN python docker/sbom.py {name} --base "\$\{{(\w+)\}}" --output /sbom$', wheel, re.MULTILINE
    )
    assert f"\nARG {argument}\n" in wheel
    [carrying] = [stage for stage in stages if "\nCOPY --from=wheel /sbom /usr/share/doc/tuwen\n" in stage]
    assert carrying.startswith(f"${{{argument}}}")
    # Every image that can be chosen comes out of the stage that has the bill.
    assert all(stage.startswith("server") for stage in stages[stages.index(carrying) + 1 :])


def test_compose_finds_the_torch_that_the_lock_names() -> None:
    """Compose passes PyTorch's CPU index to the build, because PyPI lacks the version of torch that the lock names."""
    defaults = dict(re.findall(r"^(\w+)=(.*)$", COMPOSE.with_name(".env").read_text(encoding="utf-8"), re.MULTILINE))
    assert ("+cpu" in (ROOT / "docker" / "locks" / "cpu.txt").read_text(encoding="utf-8")) <= (
        defaults["TORCH_INDEX"] == "https://download.pytorch.org/whl/cpu"
    )


def test_the_compose_file_is_valid() -> None:
    judge = Path(sys.executable).with_name("check-jsonschema")
    command = [judge, "--builtin-schema", "vendor.compose-spec", COMPOSE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_names_things_that_exist() -> None:
    defaults = dict(re.findall(r"^(\w+)=(.*)$", COMPOSE.with_name(".env").read_text(encoding="utf-8"), re.MULTILINE))
    text = COMPOSE.read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+)", text)) <= defaults.keys()
    composed = yaml.safe_load(text)
    ports = []
    for service in composed["services"].values():
        if "build" in service:
            assert (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).exists()
        else:
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:")
        if "profiles" not in service or "gpu" not in service["profiles"]:
            ports += [port.split(":")[1] for port in service["ports"]]
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.partition(":")[0]
            if source.startswith("."):
                assert (COMPOSE.parent / source).exists()
            else:
                assert source in composed["volumes"] or source == "${TUWEN_REPOSITORY}"
    assert len(set(ports)) == len(ports)
    profiles = {profile for service in composed["services"].values() for profile in service.get("profiles", [])}
    assert defaults["COMPOSE_PROFILES"] in profiles
    scraped = yaml.safe_load((COMPOSE.parent / "monitoring" / "prometheus.yaml").read_text(encoding="utf-8"))
    [job] = scraped["scrape_configs"]
    assert job["job_name"] == "tuwen"
    assert job["dns_sd_configs"][0]["names"] == composed["x-server"]["networks"]["default"]["aliases"]


def test_the_build_context_is_what_the_images_copy() -> None:
    """The files that .dockerignore lets through suffice to build the wheel, and all of them exist."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"]
    assert all((ROOT / path).exists() for path in allowed)
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [*wheel["packages"], *wheel["force-include"], *project["project"]["license-files"], "README.md"]
    assert set(needed) <= set(allowed)
