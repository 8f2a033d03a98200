"""How a repository is run best on this machine, found by trying: `tuwen tune`."""

from tuwen_build.tuning._settings import Settings
from tuwen_build.tuning._trial import Trial
from tuwen_build.tuning._tuner import Tuning, TuningOptions, tune

__all__ = ["Settings", "Trial", "Tuning", "TuningOptions", "tune"]
