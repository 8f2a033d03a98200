"""Each fact about a server gives a finding with the right severity and remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tuwen_cli.diagnosis import Finding, findings_of
from tuwen_cli.facts import Burst, Certificate, Facts, HttpFacts, ModelFacts, TextCache

WELL = Facts(
    "clip.example:8001",
    encrypted=True,
    version="2.75.0",
    models={
        name: ModelFacts(ready=True, queue_policy=True, requests=5_000, executions=500, items=5_000)
        for name in ("vision_encoder", "text_encoder", "image_embedding")
    },
    clock_skew=0.01,
    open_protocols=(),
    addresses=("10.0.0.1", "10.0.0.2"),
    is_name=True,
    certificate=Certificate(90.0, ("clip.example",)),
    burst=Burst(32, 0, 3, 0.2),
    http=HttpFacts(8000, is_open=True),
    text_cache=TextCache(900, 100),
)


def found(check: str, **changed: object) -> list[Finding]:
    """Return the findings of one check about a healthy server with some facts changed."""
    return [finding for finding in findings_of(replace(WELL, **changed)) if finding.check == check]  # type: ignore[arg-type]


def test_a_server_that_is_well_has_nothing_to_mend() -> None:
    findings = findings_of(WELL)
    assert {finding.severity for finding in findings} == {"ok"}
    assert {finding.check for finding in findings} == {
        *("ready", "inference", "version", "queues", "control", "certificate", "clock"),
        *("connections", "batches", "burst", "http", "text_cache"),
    }


@pytest.mark.parametrize(
    ("check", "severity", "words", "changed"),
    [
        ("ready", "error", "not ready", {"ready": False}),
        ("ready", "error", "vision_encoder", {"models": {"vision_encoder": ModelFacts(ready=False)}}),
        ("inference", "error", "computed nothing", {"silent": "vision_encoder computed nothing"}),
        ("version", "error", "known vulnerabilities", {"version": "2.51.0"}),
        ("version", "warning", "known vulnerabilities", {"version": "2.51.0", "local": True}),
        ("version", "note", "does not tell its version", {"version": None}),
        ("queues", "warning", "up to 500 ms", {"version": "2.51.0"}),
        ("processes", "note", "process of a model died", {"version": "2.67.0"}),
        ("control", "error", "model-repository", {"open_protocols": ("model-repository", "trace")}),
        ("control", "warning", "model-repository", {"open_protocols": ("model-repository",), "local": True}),
        ("control", "warning", "trace", {"open_protocols": ("trace",)}),
        ("encryption", "note", "in the clear", {"encrypted": False}),
        ("certificate", "error", "self-signed", {"certificate": Certificate(problem="self-signed certificate")}),
        ("expiry", "warning", "expires in 3 days", {"certificate": Certificate(3.2)}),
        ("expiry", "error", "has expired", {"certificate": Certificate(-1.0)}),
        ("clock", "warning", "2.0 s ahead of", {"clock_skew": 2.0}),
        ("clock", "error", "30.0 s behind", {"clock_skew": -30.0}),
        ("connections", "warning", "several servers", {"several_servers": True, "addresses": ("10.0.0.1",)}),
        ("connections", "note", "one address", {"addresses": ("10.0.0.1",)}),
        ("shared_memory", "warning", "64 MiB left", {"shared_memory_free": 64 << 20}),
        ("shared_memory", "ok", "8,192 MiB left", {"shared_memory_free": 8 << 30}),
        ("cache", "warning", "image_embedding", {"models": {"image_embedding": ModelFacts(True, response_cache=True)}}),
        ("http", "error", "logging", {"http": HttpFacts(8000, True, False, ("logging",))}),
        ("http", "warning", "logging", {"http": HttpFacts(8000, True, False, ("logging",)), "local": True}),
        ("http", "error", "can end Triton 2.51.0", {"http": HttpFacts(8000, True, True), "version": "2.51.0"}),
        ("http", "warning", "without encryption", {"http": HttpFacts(8000, True, True)}),
        ("http", "ok", "only with a key", {"http": HttpFacts(8000, True, True), "encrypted": False}),
        ("http", "ok", "port 8000 of the HTTP API is closed", {"http": HttpFacts(8000, False)}),
        ("text_cache", "note", "30 of 1,000 texts (3%)", {"text_cache": TextCache(30, 970)}),
        ("text_cache", "ok", "0 of 999 texts (0%)", {"text_cache": TextCache(0, 999)}),
        ("burst", "warning", "3 of them failed", {"burst": Burst(32, 3, 5, 1.0)}),
        ("burst", "warning", "no batches are formed", {"burst": Burst(32, 0, 31, 1.0)}),
        ("burst", "note", "could not be counted", {"burst": Burst(32, 0, 0, 1.0)}),
    ],
)
def test_each_problem_gives_a_finding_with_a_remedy(
    check: str, severity: str, words: str, changed: dict[str, object]
) -> None:
    [finding] = found(check, **changed)
    assert finding.severity == severity
    assert words in finding.message
    assert bool(finding.remedy) == (
        severity in ("error", "warning")
        or (severity == "note" and check in ("processes", "encryption", "connections", "text_cache"))
    )


def test_single_items_are_noted_only_after_many_requests() -> None:
    alone = {"vision_encoder": ModelFacts(True, requests=2_000, executions=2_000, items=2_000)}
    [finding] = found("batches", models=alone)
    assert finding.severity == "note"
    assert "nothing is batched" in finding.message
    assert found("batches", models={"vision_encoder": ModelFacts(True, requests=9, executions=9, items=9)}) == []


def test_several_instances_with_a_queue_policy_are_reported_on_an_old_server() -> None:
    models = {"text_encoder": ModelFacts(True, queue_policy=True, instances=2)}
    [finding] = found("instances", models=models, version="2.51.0")
    assert "text_encoder" in finding.message
    assert found("instances", models=models) == []


def test_a_server_that_does_not_answer_has_one_finding() -> None:
    [finding] = findings_of(Facts("nowhere:1", unreachable="Connection refused"))
    assert (finding.check, finding.severity) == ("connection", "error")
    assert "Connection refused" in finding.message


def test_a_refused_certificate_is_reported_although_no_call_succeeds() -> None:
    facts = replace(WELL, unreachable="certificate verify failed", certificate=Certificate(90, ("a", "b"), "mismatch"))
    assert [finding.check for finding in findings_of(facts)] == ["connection", "certificate"]
    assert "it is for a, b" in findings_of(facts)[1].message
