"""What goes wrong in production, on purpose, in the middle of a load test.

Each runs a third of the time without it, a third with it, and a third afterwards, and says whether the service held.
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
"""By the name that the command line has for it."""
