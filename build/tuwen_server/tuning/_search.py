"""The order in which settings are tried, and the choice of the best settings."""

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
"""A function that measures settings of each kind, and returns a trial for each kind."""

_EQUAL = 0.97  # the share of the best rate from which a rate counts as equal, because measurements vary


def search_machine(attempt: Attempt, now: Mapping[str, Settings], *, cores: int, on_gpu: bool) -> Mapping[str, Trial]:
    """Find the best settings for this machine, with a new server for each trial.

    The first trials compare all splits of the cores into instances and threads. The next trials compare queue delays
    with the best split. If there are enough cores, the last trials compare numbers of processes that decode images.

    Both encoders get the same number of threads, because NVIDIA's C++ backend has one number for its whole process: the
    number of the model that it loads first.

    Args:
        attempt: the function that measures settings.
        now: the settings of each kind in the repository.
        cores: the number of processor cores that the servers may use.
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

    The first trials double the numbers of instances of both encoders until neither becomes faster. The next trials
    compare the queue delays. The last trials double the number of processes that decode images until images become no
    faster. The server's number of cores is unknown. The threads stay as they are, because NVIDIA's C++ backend reads
    their number only when it starts.

    Args:
        attempt: the function that measures settings.
        now: the current settings of each kind in the server.

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
    """Return whether a trial is faster than every earlier trial of its kind, by more than noise."""
    return all(other.rate < _EQUAL * trial.rate for other in earlier if other.kind == trial.kind)


def best_threads(trials: Sequence[Trial]) -> int:
    """Return the number of threads with which images and texts together are fastest.

    Each kind's rate is divided by its best rate, and the score of a number of threads is the product of both quotients.
    Among the numbers whose scores equal the best within noise, the one with the shortest single calls is returned.

    Args:
        trials: the trials of both kinds for each number of threads.
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
    """Return the trial with the shortest single calls among the trials whose rates equal the best within noise.

    Args:
        trials: the trials of all kinds.
        kind: the kind of the trial to return: ``images`` or ``texts``.
        threads: the number of threads of the trials to consider; None: all trials are considered.
    """
    candidates = [trial for trial in trials if trial.kind == kind and threads in (None, trial.settings.threads)]
    peak = max(trial.rate for trial in candidates)
    return min((trial for trial in candidates if trial.rate >= _EQUAL * peak), key=lambda trial: trial.alone_seconds)


def fewest_instances(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the fewest instances among the trials that equal the fastest within noise.

    Args:
        trials: the trials of one kind, which differ only in `Settings.instances` or only in `Settings.preprocessing`.
    """
    peak = max(trial.rate for trial in trials)
    return min(
        (trial for trial in trials if trial.rate >= _EQUAL * peak),
        key=lambda trial: trial.settings.instances + trial.settings.preprocessing,
    )
