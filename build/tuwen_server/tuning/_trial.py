"""One trial: Triton serves a copy of the repository with other settings, under load."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tuwen import Client
from tuwen.statistics import difference
from tuwen_server import EmbeddedServer, ServerOptions, guarded_folder
from tuwen_server.traffic import CALLERS, Work, saturate
from tuwen_server.tuning._configs import apply
from tuwen_server.tuning._settings import ENCODERS, Settings

__all__ = ["Trial", "run_trial"]

_TIMEOUT = 120.0


@dataclass(frozen=True)
class Trial:
    """The measurements of one trial.

    Attributes:
        kind: ``images`` or ``texts``.
        settings: the settings of its encoder.
        rate: items per second with many callers.
        batch: the mean batch size with many callers.
        alone_seconds: the median time of a call without other callers.
    """

    kind: str
    settings: Settings
    rate: float
    batch: float
    alone_seconds: float


def run_trial(repository: Path, settings: Mapping[str, Settings], work: Work, seconds: float) -> Iterator[Trial]:
    """Measure each kind that has settings, one after the other.

    Args:
        repository: a repository whose files were checked; a trial does not check them again. It is not changed.
        settings: the settings by kind.
        work: the items to send.
        seconds: the duration of each measurement.
    """
    with guarded_folder() as folder:
        copy = Path(shutil.copytree(repository.absolute(), folder / "repository", copy_function=_link))
        for kind, chosen in settings.items():
            apply(copy, kind, chosen)
        with (
            EmbeddedServer(copy, replace(ServerOptions.on_free_ports(), check_files=False)) as server,
            Client(server.grpc_url, timeout=_TIMEOUT) as clip,
        ):
            for kind, chosen in settings.items():
                ask = work.ask(kind, clip)
                alone = saturate(ask, concurrency=1, seconds=seconds, warmup=seconds / 4)
                before = clip.statistics()
                busy = saturate(ask, concurrency=CALLERS[kind], seconds=seconds, warmup=seconds / 2)
                after = clip.statistics()
                batch = difference(after, before)[ENCODERS[kind]].mean_batch_size
                yield Trial(kind, chosen, busy.rate, batch, alone.quantile(0.5))


def _link(source: str, target: str) -> None:
    """Link a file instead of copying it, because weights are large. Configurations are replaced, not changed."""
    Path(target).symlink_to(source)
