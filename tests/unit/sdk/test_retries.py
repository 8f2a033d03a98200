"""Retries: they happen only if they can help. Their number, their time and the budget for a full server limit them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.support.blocking import Make
from tests.support.clocks import ManualClock
from tuwen import (
    AccessDeniedError,
    DeadlineExceededError,
    InferenceError,
    InvalidArgumentError,
    ModelNotFoundError,
    OverloadedError,
    RetryPolicy,
    ServerError,
    ServerStoppingError,
    ServerUnavailableError,
)
from tuwen._pacing import RetryBudget
from tuwen._transport import InferRequest
from tuwen.testing import FakeTransport

QUICK = RetryPolicy(first_pause=0.001, longest_pause=0.002)

pytestmark = pytest.mark.usefixtures("clock")  # pauses take no time


@pytest.mark.parametrize("error", [ServerUnavailableError("gone"), OverloadedError("full")])
def test_a_retryable_error_is_retried_until_success(make: Make, error: ServerError) -> None:
    fake = FakeTransport(fail_with=error, fail_times=3)
    with make(fake, retries=QUICK) as clip:
        vectors = clip.embed_texts(["猫"])
    assert [request.items for request in fake.requests] == [("猫".encode(),)] * 4
    assert vectors.shape == (1, 512)


def test_the_number_of_attempts_is_limited(make: Make) -> None:
    fake = FakeTransport(fail_with=ServerUnavailableError("gone"))
    with make(fake, retries=QUICK) as clip, pytest.raises(ServerUnavailableError, match="gone"):
        clip.embed_texts(["猫"])
    assert len(fake.requests) == 4


def test_attempts_at_a_stopping_server_do_not_count(make: Make) -> None:
    """An attempt that a stopping server rejected does not count against the maximum number of attempts.

    If a host name leads to two servers, retries may reach the stopping server several times.
    """
    fake = FakeTransport(fail_with=ServerStoppingError("stopping"), fail_times=12)
    with make(fake, retries=QUICK) as clip:
        assert clip.embed_texts(["猫"]).shape == (1, 512)
    assert len(fake.requests) == 13
    fake = FakeTransport(fail_with=ServerStoppingError("stopping"))
    with make(fake, retries=QUICK, timeout=0.3) as clip, pytest.raises(ServerStoppingError):
        clip.embed_texts(["猫"])
    assert len(fake.requests) > 100  # retries of at most 2 ms each fill the call's 0.3 seconds
    fake = FakeTransport(fail_with=ServerStoppingError("stopping"))
    with make(fake, retries=RetryPolicy(attempts=1)) as clip, pytest.raises(ServerStoppingError):
        clip.embed_texts(["猫"])
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "error",
    [
        InferenceError("broken"),
        AccessDeniedError("no key"),
        ModelNotFoundError("what?"),
        DeadlineExceededError("too late"),
    ],
)
def test_an_error_that_is_not_retryable_is_raised_at_once(make: Make, error: ServerError) -> None:
    fake = FakeTransport(fail_with=error)
    with make(fake, retries=QUICK) as clip, pytest.raises(type(error)):
        clip.embed_texts(["猫"])
    assert len(fake.requests) == 1


def test_a_policy_with_one_attempt_makes_no_retries(make: Make) -> None:
    fake = FakeTransport(fail_with=ServerUnavailableError("gone"))
    with make(fake, retries=RetryPolicy(attempts=1)) as clip, pytest.raises(ServerUnavailableError):
        clip.embed_texts(["猫"])
    assert len(fake.requests) == 1


def test_the_budget_limits_retries_at_a_full_server(make: Make) -> None:
    """A hundred calls to a full server send a hundred requests and only ten retries, which is the retry budget."""
    fake = FakeTransport(fail_with=OverloadedError("full"))
    with make(fake, retries=QUICK) as clip:
        for number in range(100):
            with pytest.raises(OverloadedError):
                clip.embed_texts([str(number)])
    assert len(fake.requests) == 110


def test_reading_statistics_adds_no_retries_to_the_budget(make: Make) -> None:
    """A response with statistics adds no retry to the budget, because statistics do not wait in the models' queues."""
    fake = FakeTransport(fail_with=OverloadedError("full"))
    policy = RetryPolicy(first_pause=0, longest_pause=0, overload_budget=1)
    with make(fake, retries=policy) as clip:
        for _ in range(2):
            with pytest.raises(OverloadedError):
                clip.embed_texts(["猫"])
            for _ in range(20):
                clip.statistics()
    assert len(fake.requests) == 3  # two calls and one retry


def test_a_pause_never_outlasts_the_call(make: Make, clock: ManualClock) -> None:
    fake = FakeTransport(fail_with=ServerUnavailableError("gone"))
    patient = RetryPolicy(attempts=1000, first_pause=1, longest_pause=60)
    with make(fake, retries=patient, timeout=0.3) as clip, pytest.raises(ServerUnavailableError):
        clip.embed_texts(["猫"])
    assert sum(clock.pauses) < 0.3
    assert len(fake.requests) == len(clock.pauses) + 1


def test_every_request_of_a_large_call_has_its_own_attempts(make: Make) -> None:
    class FailsTwiceEach(FakeTransport):
        def send(self, request: InferRequest, timeout: float) -> Any:
            tried = sum(sent.items == request.items for sent in self.requests)
            self._fail_times = None if tried < 2 else 0
            return super().send(request, timeout)

    fake = FailsTwiceEach(fail_with=ServerUnavailableError("restarting"))
    with make(fake, retries=QUICK) as clip:
        assert clip.embed_texts([str(number) for number in range(300)]).shape == (300, 512)
    assert len(fake.requests) == 30


class TestBudget:
    def test_pauses_grow_and_are_random(self) -> None:
        budget = RetryBudget(RetryPolicy(attempts=100, first_pause=0.1, longest_pause=2))
        error = ServerUnavailableError("gone")
        requests = [budget.request() for _ in range(200)]
        by_attempt = [[request.pause(error, 30) or 0 for request in requests] for _ in range(50)]
        for attempt, most in ((1, 0.1), (2, 0.2), (4, 0.8), (6, 2.0), (50, 2.0)):
            pauses = by_attempt[attempt - 1]
            assert most / 2 < max(pauses) <= most
            assert min(pauses) < most / 4

    def test_successes_add_retries_to_the_budget(self) -> None:
        budget = RetryBudget(RetryPolicy(overload_budget=1, first_pause=0, longest_pause=0))
        full = OverloadedError("full")
        assert budget.request().pause(full, 30) is not None
        assert budget.request().pause(full, 30) is None
        for _ in itertools.repeat(None, 11):
            budget.succeeded()
        assert budget.request().pause(full, 30) is not None

    @pytest.mark.parametrize(
        "choice", [{"attempts": 0}, {"first_pause": -1}, {"first_pause": 3}, {"overload_budget": -1}]
    )
    def test_invalid_settings_are_refused(self, choice: dict[str, Any]) -> None:
        with pytest.raises(InvalidArgumentError):
            RetryPolicy(**choice)
