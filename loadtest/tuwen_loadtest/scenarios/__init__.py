"""Scenarios: faults of production, injected in the middle of a load test.

A scenario has three phases of equal length: before, during and after the fault. At the end, the scenario checks the
measurements.
"""

from collections.abc import Mapping

from tuwen_loadtest.options import ScenarioName
from tuwen_loadtest.scenarios._bad_clients import BAD_CLIENTS
from tuwen_loadtest.scenarios._overload import OVERLOAD
from tuwen_loadtest.scenarios._restart import RESTART
from tuwen_loadtest.scenarios._scenario import Scenario

__all__ = ["SCENARIOS", "Scenario"]

SCENARIOS: Mapping[ScenarioName, Scenario] = {
    "overload": OVERLOAD,
    "restart": RESTART,
    "bad-clients": BAD_CLIENTS,
}
"""The scenarios, by their name on the command line."""
