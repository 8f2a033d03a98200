"""Which settings are tried one after another, and which of them are the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod

from tuwen_server.tuning._settings import (
    DELAYS,
    ENCODERS,
    INSTANCES,
    PROCESSES,
    Settings,
    layouts,
    preprocessing_counts,
)
from tuwen_server.tuning._trial import Trial

__all__ = ["Attempt", "best_of", "best_threads", "fewest_instances", "search_machine", "search_server"]

Attempt = Callable[[Mapping[str, Settings]], Mapping[str, Trial]]
"""Measures settings of each kind and returns the trial of each."""

_EQUAL = 0.97  # of the best rate: less than that is no noise


def search_machine(attempt: Attempt, now: Mapping[str, Settings], *, cores: int, on_gpu: bool) -> Mapping[str, Trial]:
    """Find the best settings for this machine, which starts a new server for each trial.

    First every split of the cores into instances and threads, then with the best split every queue delay, then with the
    best delay every number of processes that decode images, where the cores are enough for several.

    Both encoders get the same number of threads. NVIDIA's C++ backend has one number for its whole process: it takes
    that of the model that it loads first and ignores the other one.

    Args:
        attempt: measures settings.
        now: the settings in the repository, of each kind.
        cores: the processor cores that the servers may use.
        on_gpu: whether the encoders run on a GPU.

    Returns:
        the best trial of each kind.
    """
    counts = preprocessing_counts(cores)
    if len(counts) > 1:
        now = {**now, "images": replace(now["images"], preprocessing=counts[0])}
    trials: list[Trial] = []
    for instances, threads in layouts(cores, on_gpu=on_gpu):
        trials += attempt({kind: replace(now[kind], instances=instances, threads=threads) for kind in now}).values()
    best = best_threads(trials)
    split = {kind: best_of(trials, kind, best).settings for kind in now}
    trials += _delays(attempt, split)
    chosen = {kind: best_of(trials, kind, best) for kind in now}
    compared = [chosen["images"]]
    for count in counts[1:]:
        settings = {"images": replace(chosen["images"].settings, preprocessing=count)}
        compared.append(attempt(settings)["images"])
    return {**chosen, "images": fewest_instances(compared)}


def search_server(attempt: Attempt, now: Mapping[str, Settings]) -> Mapping[str, Trial]:
    """Find the best settings for a server that already runs.

    The numbers of instances of both encoders are doubled until neither gains, then every queue delay is tried, then the
    number of processes that decode images is doubled until images gain nothing. The cores of the server are unknown
    here. The threads stay as they are, because NVIDIA's C++ backend takes their number once, when it starts.

    Args:
        attempt: measures settings.
        now: the settings that the server runs with, of each kind.

    Returns:
        the best trial of each kind.
    """
    trials: list[Trial] = []
    for count in INSTANCES:
        measured = attempt({kind: replace(now[kind], instances=count) for kind in now})
        gains = [_gains(trial, trials) for trial in measured.values()]
        trials += measured.values()
        if not any(gains):
            break
    few = {kind: fewest_instances([trial for trial in trials if trial.kind == kind]).settings for kind in now}
    trials += _delays(attempt, few)
    chosen = {
        kind: best_of([trial for trial in trials if trial.settings.instances == few[kind].instances], kind)
        for kind in now
    }
    compared = [chosen["images"]]
    for count in PROCESSES:
        if count > chosen["images"].settings.preprocessing:
            trial = attempt({"images": replace(chosen["images"].settings, preprocessing=count)})["images"]
            gained = _gains(trial, compared)
            compared.append(trial)
            if not gained:
                break
    return {**chosen, "images": fewest_instances(compared)}


def _delays(attempt: Attempt, best: Mapping[str, Settings]) -> Sequence[Trial]:
    trials: list[Trial] = []
    for delay in DELAYS:
        settings = {kind: replace(best[kind], delay_microseconds=delay) for kind in best}
        if settings != best:
            trials += attempt(settings).values()
    return trials


def _gains(trial: Trial, earlier: Sequence[Trial]) -> bool:
    """Return whether a trial is faster than every earlier one of its kind, by more than noise."""
    return all(other.rate < _EQUAL * trial.rate for other in earlier if other.kind == trial.kind)


def best_threads(trials: Sequence[Trial]) -> int:
    """Return the number of threads with which images and texts together are fastest.

    A number of threads scores the product of the shares of their best rates that images and texts reach with it. Of
    the numbers that score as high but for noise, the one with the shortest times of lone calls is returned.

    Args:
        trials: trials of both kinds with each number of threads.
    """
    peaks = {kind: best_of(trials, kind).rate for kind in ENCODERS}
    best = {
        threads: [best_of(trials, kind, threads) for kind in ENCODERS]
        for threads in {trial.settings.threads for trial in trials}
    }
    scores = {threads: prod(trial.rate / peaks[trial.kind] for trial in of) for threads, of in best.items()}
    equal = [threads for threads, score in scores.items() if score >= _EQUAL * max(scores.values())]
    return min(equal, key=lambda threads: prod(trial.alone_seconds for trial in best[threads]))


def best_of(trials: Sequence[Trial], kind: str, threads: int | None = None) -> Trial:
    """Return the trial that is fastest under load; of those that are as fast but for noise, the one fastest alone.

    Args:
        trials: trials of any kind.
        kind: ``images`` or ``texts``.
        threads: take only trials with this number of threads; None: take all.
    """
    candidates = [trial for trial in trials if trial.kind == kind and threads in (None, trial.settings.threads)]
    peak = max(trial.rate for trial in candidates)
    return min((trial for trial in candidates if trial.rate >= _EQUAL * peak), key=lambda trial: trial.alone_seconds)


def fewest_instances(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the fewest instances among the trials that are as fast but for noise.

    Args:
        trials: trials of one kind that differ in `Settings.instances` or `Settings.preprocessing` alone.
    """
    peak = max(trial.rate for trial in trials)
    return min(
        (trial for trial in trials if trial.rate >= _EQUAL * peak),
        key=lambda trial: trial.settings.instances + trial.settings.preprocessing,
    )
