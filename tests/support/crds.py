"""Checks of objects whose kinds an operator adds to Kubernetes, such as KEDA's ScaledObject, against their schemas.

`tests/environments.sh crds` installs the schemas.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ENVIRONMENTS

__all__ = ["faults", "kserve_faults"]

_ENVIRONMENT = ENVIRONMENTS / "crds"
_MODULES = {
    "Application": "@kubernetes-models/argo-cd/argoproj.io/v1alpha1/Application",
    "GRPCRoute": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/GRPCRoute",
    "ScaledObject": "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject",
}
_FOREIGN = ("horizontalPodAutoscalerConfig", "metadata", "valuesObject")
"""Keys whose values hold further keys that are not in the operator's schema, but Kubernetes' own or the user's."""
_PROGRAM = """
const [module, kind] = process.argv.slice(1);
let text = "";
for await (const part of process.stdin) text += part;
const models = await import(module);
try { new models[kind](JSON.parse(text)).validate(); } catch (error) { console.log(error.message); }
"""


def faults(found: dict[str, Any]) -> list[str]:
    """Return the violations of the CRD in an object, and the keys in the object that the operator does not know.

    Unknown keys are found separately, because a validator drops such keys silently, as the API server does.
    """
    kind = found["kind"]
    node = shutil.which("node")
    package = _ENVIRONMENT / "node_modules" / "/".join(_MODULES[kind].split("/")[:2])
    if node is None or not package.is_dir():
        pytest.skip("the schemas of operators are missing; install them with: tests/environments.sh crds")
    command = [node, "--input-type=module", "--eval", _PROGRAM, _MODULES[kind], kind]
    done = subprocess.run(
        command, cwd=_ENVIRONMENT, input=json.dumps(found), capture_output=True, text=True, timeout=120, check=True
    )
    named = set().union(*(_names(path) for path in package.rglob("*.d.ts")))
    unknown = sorted(set(_keys(found["spec"])) - named)
    return [*done.stdout.splitlines(), *(f"unknown key '{key}'" for key in unknown)]


def _names(declaration: Path) -> set[str]:
    return set(re.findall(r'^ +"?([\w-]+)"?\??:', declaration.read_text(encoding="utf-8"), re.MULTILINE))


def _keys(value: Any) -> Iterator[str]:
    """Return the keys of a specification, except the keys below `_FOREIGN`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            if key not in _FOREIGN:
                yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


def kserve_faults(found: dict[str, Any]) -> list[str]:
    """Return the violations of KServe's schema in an object of KServe.

    Parts that KServe takes from Kubernetes, such as containers, are not checked.
    """
    folder = _ENVIRONMENT / "kserve" / "kserve" / "models"
    if not folder.is_dir():
        pytest.skip("the schemas of operators are missing; install them with: tests/environments.sh crds")
    version = found["apiVersion"].rpartition("/")[2].capitalize()
    return list(_judged(f"{version}{found['kind']}", found, _models(folder), found["kind"]))


def _models(folder: Path) -> Mapping[str, Path]:
    """Return the source file of each class of KServe's package, by the name of the class."""
    return {
        name: path
        for path in folder.glob("*.py")
        for name in re.findall(r"^class (\w+)\(object\)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def _judged(type_name: str, value: Any, models: Mapping[str, Path], at: str) -> Iterator[str]:
    if (inner := re.fullmatch(r"list\[(.+)\]", type_name)) is not None:
        if not isinstance(value, list):
            yield f"{at}: expected a list"
            return
        for index, one in enumerate(value):
            yield from _judged(inner[1], one, models, f"{at}[{index}]")
        return
    plain = {"str": str, "int": int, "bool": bool, "float": (int, float)}.get(type_name)
    if plain is not None and not isinstance(value, plain):  # type: ignore[arg-type]
        yield f"{at}: expected {type_name}, got {value!r}"
    if type_name not in models:
        return
    text = models[type_name].read_text(encoding="utf-8")
    types, names = (
        ast.literal_eval(re.search(rf"{table} = (\{{.*?\}})", text, re.DOTALL)[1])  # type: ignore[index]
        for table in ("openapi_types", "attribute_map")
    )
    attributes = {key: attribute for attribute, key in names.items()}
    required = set(re.findall(r"Invalid value for `(\w+)`, must not be `None`", text))
    for attribute in sorted(required - {attributes.get(key) for key in value}):
        yield f"{at}: {names[attribute]} is missing"
    for key, one in value.items():
        if key not in attributes:
            yield f"{at}: unknown key '{key}'"
        else:
            yield from _judged(types[attributes[key]], one, models, f"{at}.{key}")
