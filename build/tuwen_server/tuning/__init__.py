"""The search for the best settings of a repository on this machine: `tuwen tune`."""

from tuwen_server.options import TuningOptions
from tuwen_server.tuning._configs import apply, limit_waiting
from tuwen_server.tuning._settings import ENCODERS, Settings
from tuwen_server.tuning._trial import Trial
from tuwen_server.tuning._tuner import Tuning, tune

__all__ = [
    "ENCODERS",
    "Settings",
    "Trial",
    "Tuning",
    "TuningOptions",
    "apply",
    "limit_waiting",
    "tune",
]
