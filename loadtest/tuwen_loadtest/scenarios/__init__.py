"""Scenarios: faults of production, injected in the middle of a load test.

Each scenario runs a third of the time before the fault, a third with it and a third after it, and checks the service.
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
"""The scenarios by their names on the command line."""
