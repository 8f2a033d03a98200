"""One trial: a server runs a repository with other settings, under real traffic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tuwen.model_names import full_name
from tuwen.statistics import difference
from tuwen_server.traffic import CALLERS, Work, saturate
from tuwen_server.tuning._servers import TrialServer
from tuwen_server.tuning._settings import ENCODERS, Settings

__all__ = ["Trial", "run_trial"]


@dataclass(frozen=True)
class Trial:
    """The measurements of one trial.

    Attributes:
        kind: the kind of the items: ``images`` or ``texts``.
        settings: the settings of the encoder and of the model before it.
        rate: the number of items per second with many callers.
        batch: the mean number of items in a batch with many callers.
        alone_seconds: the median time in seconds of a call with one item, while no other caller sends requests.
    """

    kind: str
    settings: Settings
    rate: float
    batch: float
    alone_seconds: float


def run_trial(server: TrialServer, settings: Mapping[str, Settings], work: Work, seconds: float) -> Iterator[Trial]:
    """Measure the kinds that have settings, one after the other.

    Args:
        server: the server that runs the repository with the settings.
        settings: the settings of each kind.
        work: the items that are sent.
        seconds: the duration of each measurement in seconds.
    """
    with server.running(settings) as clip:
        name = clip.model_card().name
        for kind, chosen in settings.items():
            ask = work.ask(kind, clip)
            alone = saturate(ask, concurrency=1, seconds=seconds, warmup=seconds / 4)
            before = clip.statistics()
            busy = saturate(ask, concurrency=CALLERS[kind], seconds=seconds, warmup=seconds / 2)
            after = clip.statistics()
            batch = difference(after, before)[full_name(name, ENCODERS[kind])].mean_batch_size
            yield Trial(kind, chosen, busy.rate, batch, alone.quantile(0.5))
