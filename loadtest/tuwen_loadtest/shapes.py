"""The shape of a load for Locust: the number of users over time."""

from __future__ import annotations

from typing import Any

from locust import LoadTestShape
from locust.runners import MasterRunner

from tuwen_loadtest._locust_options import options_of
from tuwen_loadtest._users_over_time import users_at

__all__ = ["Shape"]


class Shape(LoadTestShape):
    """The shape that ``--shape`` names, for the number of users in ``--users`` and the duration in ``--run-time``.

    Without ``--run-time``, all users run endlessly.
    """

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Return the current number of users, and the number of users to start per second; None ends the run."""
        runner: Any = self.runner
        locusts_own = runner.environment.parsed_options
        users, seconds = locusts_own.num_users or 1, locusts_own.run_time
        elapsed: float = self.get_run_time()  # type: ignore[no-untyped-call]
        if seconds is None:
            return users, users
        if elapsed >= seconds:
            # Locust 2.47 quits half a second after a shape has ended, and drops later reports of workers. So the users
            # of the workers end first. Then the workers send their last samples in time.
            if isinstance(runner, MasterRunner) and runner.user_count > 0:
                return 0, users
            return None
        return users_at(options_of(runner.environment).shape, users, elapsed / seconds), users
