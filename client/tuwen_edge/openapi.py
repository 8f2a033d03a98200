"""The OpenAPI 3.1 description of the edge, made from the pydantic models of its operations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import tuwen
from tuwen_edge.errors import STATUSES
from tuwen_edge.operations import Operation

__all__ = ["description"]

_REFERENCE = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"\{(\w+)\}")
_JSON, _FORM = "application/json", "multipart/form-data"


def description(operations: Sequence[Operation], *, has_keys: bool) -> dict[str, Any]:
    """Return the OpenAPI description of operations, ready for JSON.

    Args:
        operations: all operations of the edge.
        has_keys: whether callers need an API key.
    """
    models = _models(operations)
    kinds: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        (model, "validation") for model in models
    ]
    references, definitions = models_json_schema(kinds, ref_template=_REFERENCE)
    schemas = {model: references[model, "validation"] for model in models}
    paths: dict[str, Any] = {}
    for operation in operations:
        path = paths.setdefault(operation.path, {})
        path[operation.method.lower()] = _operation(operation, schemas, has_keys=has_keys)
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "tuwen",
            "version": _version(),
            "description": "Embeddings of texts and images, in the interfaces that other tools already speak.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": definitions["$defs"]},
    }
    if has_keys:
        found["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "apiKey": {"type": "apiKey", "in": "header", "name": "api-key"},
        }
    return found


def _models(operations: Sequence[Operation]) -> list[type[BaseModel]]:
    found: dict[type[BaseModel], None] = {}
    for operation in operations:
        for model in (operation.request, operation.form, operation.answer, operation.dialect.error):
            if model is not None:
                found[model] = None
    return list(found)


def _operation(
    operation: Operation, schemas: dict[type[BaseModel], dict[str, Any]], *, has_keys: bool
) -> dict[str, Any]:
    error = {"content": {_JSON: {"schema": schemas[operation.dialect.error]}}}
    statuses = [status for status in operation.statuses if has_keys or status != 401]
    success: dict[str, Any] = {"description": "The answer."}
    if operation.answer is not None:
        success["content"] = {_JSON: {"schema": schemas[operation.answer]}}
    found: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [operation.dialect.name],
        "operationId": re.sub(r"\W+", "_", f"{operation.method.lower()}{operation.path}").strip("_"),
        "responses": {
            str(operation.success): success,
            **{str(status): {"description": STATUSES[status], **error} for status in statuses},
        },
    }
    content = {
        media_type: {"schema": schemas[model]}
        for media_type, model in ((_JSON, operation.request), (_FORM, operation.form))
        if model is not None
    }
    if content:
        found["requestBody"] = {"required": True, "content": content}
    names = _PARAMETER.findall(operation.path)
    if names:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    if has_keys and operation.needs_key:
        found["security"] = [{"bearer": []}, {"apiKey": []}]
    return found


def _version() -> str:
    try:
        return tuwen.__version__
    except AttributeError:  # the program runs from the source and is not installed
        return "0"
