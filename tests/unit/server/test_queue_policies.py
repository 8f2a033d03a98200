"""The queues in the model configurations: limits, priorities, and the delay of a single request."""

from __future__ import annotations

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.support.paths import ROOT
from tuwen_repository.configs import config_path, read_config

WITH_POLICY = ("image_preprocessing", "vision_encoder", "text_encoder")


def config(model: str) -> ModelConfig:
    return read_config(config_path(ROOT / "model_repository", model))


@pytest.mark.parametrize("model", WITH_POLICY)
def test_a_request_that_waited_too_long_is_refused(model: str) -> None:
    policy = config(model).dynamic_batching.default_queue_policy
    assert policy.timeout_action == policy.REJECT
    assert policy.default_timeout_microseconds > 0, "with 0 Triton ignores a client's own timeout"
    assert policy.allow_timeout_override


@pytest.mark.parametrize("model", WITH_POLICY)
def test_a_lone_request_waits_a_tenth_of_a_millisecond_for_others(model: str) -> None:
    """A lone request waits a tenth of a millisecond for other requests.

    Without this delay, ten times as many lone requests wait for half a second on Triton 2.51.
    """
    assert config(model).dynamic_batching.max_queue_delay_microseconds == 100


@pytest.mark.parametrize("model", WITH_POLICY)
def test_requests_are_interactive_unless_they_say_that_they_are_bulk_work(model: str) -> None:
    batching = config(model).dynamic_batching
    assert (batching.priority_levels, batching.default_priority_level) == (2, 1)


@pytest.mark.parametrize("model", WITH_POLICY)
def test_queues_are_long_enough_never_to_be_full(model: str) -> None:
    """A queue never reaches its maximum length, because requests that waited too long are refused first.

    On Triton 2.51, a model may stay idle while its queue is full.
    """
    assert config(model).dynamic_batching.default_queue_policy.max_queue_size >= 8192


def test_the_tokenization_has_no_policy_so_that_its_batcher_works_ahead() -> None:
    """The tokenization has no queue policy. A policy could make a text wait for half a second before this step, too."""
    batching = config("text_tokenization").dynamic_batching
    assert not batching.HasField("default_queue_policy")
    assert not batching.priority_levels
    assert not batching.max_queue_delay_microseconds
