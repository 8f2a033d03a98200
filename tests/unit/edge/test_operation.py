"""The edge offers its operator an OpenAPI description, metrics, a log, traces and a health check."""

from __future__ import annotations

import json
import logging

import pytest
from opentelemetry import trace
from pydantic import BaseModel

from tests.support.edge import EdgeInMemory, base64_of, png
from tuwen.failures import IMAGE_REASONS, TEXT_REASONS
from tuwen.testing import FakeTransport
from tuwen_edge import EdgeOptions
from tuwen_edge.dialects import OPERATIONS
from tuwen_edge.items import Item, estimate_tokens, image_item, item_of_string
from tuwen_edge.log import JsonFormatter
from tuwen_edge.openapi import description


def test_the_description_lists_every_operation_with_its_models(edge: EdgeInMemory) -> None:
    content = edge.get("/openapi.json").json()
    assert content["openapi"] == "3.1.0"
    assert set(content["paths"]) == {operation.path for operation in OPERATIONS}
    for operation in OPERATIONS:
        found = content["paths"][operation.path][operation.method.lower()]
        assert set(found["responses"]) == {str(operation.success), *map(str, operation.statuses)} - {"401"}
    schema = content["components"]["schemas"]["EmbeddingsRequest"]
    assert schema["required"] == ["input"]
    assert schema["additionalProperties"] is False


def test_the_description_asks_for_a_key_where_one_is_needed() -> None:
    found = description(OPERATIONS, has_keys=True)
    assert found["paths"]["/v1/embeddings"]["post"]["security"] == [{"bearer": []}, {"apiKey": []}]
    assert "security" not in found["paths"]["/health"]["get"]


def test_answers_fit_the_models_that_describe_them(edge: EdgeInMemory) -> None:
    requests = {
        "/v1/embeddings": {"input": ["a", {"image": base64_of(png())}], "encoding_format": "base64"},
        "/v1/rerank": {"query": "a", "documents": ["b"]},
        "/v1/classify": {"input": "a", "labels": ["b"]},
        "/v1/similarity": {"images": [base64_of(png())], "texts": ["b"]},
        "/v2/embed": {"model": "fake", "texts": ["a"], "embedding_types": ["float", "binary"]},
        "/vectorize": {"texts": ["a"], "images": [base64_of(png())]},
        "/clip/txt": {"text": "a"},
    }
    for operation in OPERATIONS:
        path = operation.path.replace("{model}", "fake")
        if path in requests:
            answer = edge.post(path, requests[path])
        elif operation.request is None and operation.form is None:
            answer = edge.request(operation.method, path)
        else:
            continue
        assert answer.status_code == operation.success, path
        model: type[BaseModel] | None = operation.answer
        if model is not None:
            assert set(answer.json()) <= {field.alias or name for name, field in model.model_fields.items()}, path
            model.model_validate_json(answer.content)


def test_metrics_count_requests_items_and_refusals(edge: EdgeInMemory) -> None:
    edge.post("/v1/embeddings", {"input": ["a", "b", {"image": base64_of(png())}]})
    edge.post("/v1/embeddings", {"input": ["a", {"image": "!"}]})
    edge.get("/made/up/path")
    text = edge.get("/metrics").text
    for line in (
        'tuwen_edge_requests_total{route="/v1/embeddings",status="200"} 1.0',
        'tuwen_edge_requests_total{route="/v1/embeddings",status="422"} 1.0',
        'tuwen_edge_requests_total{route="other",status="404"} 1.0',
        'tuwen_edge_items_total{kind="text"} 2.0',
        'tuwen_edge_items_total{kind="image"} 1.0',
        'tuwen_edge_refused_items_total{reason="unreadable"} 1.0',
        "tuwen_edge_requests_in_flight 1.0",
    ):
        assert line in text
    assert "made" not in text


def test_every_reason_of_a_refusal_is_counted_from_the_start(edge: EdgeInMemory) -> None:
    text = edge.get("/metrics").text
    for reason in {*IMAGE_REASONS, *TEXT_REASONS, "not_fetched", "unreadable"}:
        assert f'tuwen_edge_refused_items_total{{reason="{reason}"}} 0.0' in text


def test_the_log_has_a_line_of_json_for_each_request_and_no_payload(capsys: pytest.CaptureFixture[str]) -> None:
    with EdgeInMemory(access_log=True) as edge:
        edge.post("/v1/embeddings", {"input": ["a secret"]}, headers={"x-request-id": "abc-1"})
        edge.post("/v1/embeddings", {"input": [{"image": "secret"}]})
    written = capsys.readouterr().err
    first, second = map(json.loads, written.splitlines())
    assert first | {"time": "", "ms": 0} == {
        "time": "",
        "level": "info",
        "message": "request",
        "request_id": "abc-1",
        "method": "POST",
        "route": "/v1/embeddings",
        "status": 200,
        "ms": 0,
        "items": 1,
        "bytes": 22,
    }
    assert (second["status"], second["code"]) == (422, "unsupported_format")
    assert "secret" not in written


def test_the_log_tells_the_place_of_a_fault_and_not_its_text() -> None:
    try:
        raise ValueError("a secret")
    except ValueError as error:
        found = (type(error), error, error.__traceback__)
    record = logging.LogRecord("tuwen_edge", logging.ERROR, "", 0, "the edge failed", (), found)
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["message"], line["error"]) == ("error", "the edge failed", "ValueError")
    assert "test_operation.py" in line["at"][0]
    assert "secret" not in json.dumps(line)


def test_the_log_can_be_turned_off(capsys: pytest.CaptureFixture[str], edge: EdgeInMemory) -> None:
    edge.post("/v1/embeddings", {"input": "a"})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("given", ["abc-1", "x" * 65, "two words", ""])
def test_a_request_has_the_id_of_its_caller_if_it_fits(edge: EdgeInMemory, given: str) -> None:
    found = edge.get("/health", headers={"x-request-id": given}).headers["x-request-id"]
    assert (found == given) is (given == "abc-1")
    assert found


def test_joins_the_trace_of_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    seen: list[str] = []

    class Watching(FakeTransport):
        def send(self, request, timeout):  # type: ignore[no-untyped-def]
            seen.append(f"{trace.get_current_span().get_span_context().trace_id:032x}")
            return super().send(request, timeout)

    with EdgeInMemory(Watching(), tracing=True, access_log=True) as edge:
        headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
        edge.post("/v1/embeddings", {"input": "a"}, headers=headers)
    assert seen == [trace_id]
    assert json.loads(capsys.readouterr().err)["trace_id"] == trace_id


def test_health_follows_the_server(edge: EdgeInMemory) -> None:
    assert edge.get("/health").json() == {"status": "ready", "model": "fake", "fingerprint": "0" * 32}
    edge.fake.close()
    answer = edge.get("/health")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert edge.get("/.well-known/live").status_code == 204


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 2), ("一只猫", 5), ("a", 3), ("a photograph of two cats", 8), ("好" * 500, 52), ("!?", 4)],
)
def test_estimates_tokens(text: str, tokens: int) -> None:
    assert estimate_tokens(Item("text", text), 52) == tokens


def test_images_have_no_tokens() -> None:
    assert estimate_tokens(image_item(b"abc"), 52) == 0


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("data:image/png;base64,AA", "image"),
        ("DATA:image/svg+xml,a", "image"),
        ("data:text/plain,a", "text"),
        ("data: image/png;", "text"),
        ("http://example.com/a.png", "text"),
    ],
)
def test_only_a_data_url_of_an_image_is_an_image(value: str, kind: str) -> None:
    assert item_of_string(value).kind == kind


def test_an_image_is_bytes_a_data_url_or_a_web_address() -> None:
    assert image_item("/etc/passwd").value == "data:;base64,/etc/passwd"
    assert not image_item("/etc/passwd").is_fetched
    assert image_item("HTTPS://example.com/a.png").is_fetched


def test_an_address_in_brackets_is_an_address() -> None:
    assert EdgeOptions(host="[::1]").host == "::1"
    assert not EdgeOptions(host="[::1]").exposed
    assert EdgeOptions(host="0.0.0.0").exposed
