"""Trying settings, and writing the best into the repository together with the measurements."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from math import prod
from pathlib import Path

import torch

from tuwen_repository.checksums import sha256_of
from tuwen_repository.manifest import Manifest
from tuwen_server import PACKAGES
from tuwen_server.options import TuningOptions
from tuwen_server.traffic import Work, photographs, queries
from tuwen_server.tuning._configs import apply, is_for_cpus, limit_waiting, settings_of
from tuwen_server.tuning._settings import DELAYS, ENCODERS, Settings, layouts, preprocessing_counts
from tuwen_server.tuning._trial import Trial, run_trial

__all__ = ["EVIDENCE", "Tuning", "best_of", "best_threads", "enough_preprocessing", "tune"]

EVIDENCE = "tuning.json"
_EQUAL = 0.97  # share of the best rate; smaller differences count as noise
_LIBRARIES = ("tuwen", "torch")
_SERVER = "nvidia-pytriton"


@dataclass(frozen=True)
class Tuning:
    """The result of a tuning.

    Attributes:
        device: the device of the encoders.
        cores: the number of cores that this process may use.
        trials: all trials.
        chosen: the best trial, by kind.
        longest_wait: the maximum time in a queue, in seconds, if the options set one.
        versions: the versions of the measured software.
    """

    device: str
    cores: int
    trials: Sequence[Trial]
    chosen: Mapping[str, Trial]
    longest_wait: float | None
    versions: Mapping[str, str]


def tune(
    repository: Path, options: TuningOptions | None = None, *, observe: Callable[[Trial], None] = lambda _: None
) -> Tuning:
    """Find the settings with which this machine runs a repository best, and write them into its configs.

    The trials cover every split of the cores into instances and threads; then, with the best split, every queue delay;
    then, with the best delay, every number of processes that decode images, if there are enough cores. ``tuning.json``
    records all trials. Vectors do not change.

    Both encoders get the same number of threads. NVIDIA's C++ backend has one number for its whole process: that of the
    model that it loads first.

    Args:
        repository: a folder that `tuwen build` made. Nothing else may change it during the tuning.
        options: the duration of the trials and the limit on waiting.
        observe: called with each trial.

    Raises:
        NotARepositoryError: the folder is not a repository that `tuwen build` made.
        DamagedRepositoryError: files of the repository differ from the built files.
        ServeError: the server cannot run the repository.
    """
    options = options or TuningOptions()
    repository = repository.expanduser().absolute()
    manifest = Manifest.read(repository)
    manifest.check(repository)
    cores = len(os.sched_getaffinity(0))
    on_gpu = torch.cuda.is_available() and not is_for_cpus(repository, ENCODERS["images"])
    work = Work(photographs(16), queries(500_000))
    trials: list[Trial] = []

    def attempt(settings: Mapping[str, Settings]) -> None:
        for trial in run_trial(repository, settings, work, options.seconds):
            trials.append(trial)
            observe(trial)

    now = {kind: settings_of(repository, kind) for kind in ENCODERS}
    counts = preprocessing_counts(cores)
    if len(counts) > 1:
        now["images"] = replace(now["images"], preprocessing=counts[0])
    for instances, count in layouts(cores, on_gpu=on_gpu):
        attempt({kind: replace(now[kind], instances=instances, threads=count) for kind in ENCODERS})
    threads = best_threads(trials)
    split = {kind: best_of(trials, kind, threads).settings for kind in ENCODERS}
    for delay in DELAYS:
        settings = {kind: replace(split[kind], delay_microseconds=delay) for kind in ENCODERS}
        if settings != split:
            attempt(settings)
    chosen = {kind: best_of(trials, kind, threads) for kind in ENCODERS}
    compared = [chosen["images"]]
    for count in counts[1:]:
        attempt({"images": replace(chosen["images"].settings, preprocessing=count)})
        compared.append(trials[-1])
    chosen["images"] = enough_preprocessing(compared)
    for kind, trial in chosen.items():
        apply(repository, kind, trial.settings)
    if options.longest_wait is not None:
        limit_waiting(repository, dict.fromkeys(ENCODERS, options.longest_wait))
    device = torch.cuda.get_device_name() if on_gpu else torch.cpu.get_capabilities().get("cpu_name", "CPU")
    versions = {**{name: version(name) for name in _LIBRARIES}, _SERVER: PACKAGES[_SERVER]}
    tuning = Tuning(device, cores, trials, chosen, options.longest_wait, versions)
    (repository / EVIDENCE).write_text(json.dumps(asdict(tuning), indent=2) + "\n", encoding="utf-8")
    written = [repository / EVIDENCE, *repository.glob("*/config.pbtxt")]
    hashes = {path.relative_to(repository).as_posix(): sha256_of(path) for path in written}
    replace(manifest, files={**manifest.files, **hashes}).write(repository)
    return tuning


def best_threads(trials: Sequence[Trial]) -> int:
    """Return the number of threads with which images and texts together are fastest.

    The score of a number of threads is the product of two shares: the rates of images and of texts, each divided by its
    best rate. Of all numbers whose score equals the best within the noise, the one with the fastest lone calls is
    returned.

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
    """Return the trial that is fastest under load. Of trials that are equal within the noise, the fastest alone wins.

    Args:
        trials: trials of any kind.
        kind: ``images`` or ``texts``.
        threads: take only trials with this number of threads; None: take all.
    """
    candidates = [trial for trial in trials if trial.kind == kind and threads in (None, trial.settings.threads)]
    peak = max(trial.rate for trial in candidates)
    return min((trial for trial in candidates if trial.rate >= _EQUAL * peak), key=lambda trial: trial.alone_seconds)


def enough_preprocessing(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the fewest preprocessing processes among those that are equal within the noise.

    Args:
        trials: trials of one kind that differ in `Settings.preprocessing` alone.
    """
    peak = max(trial.rate for trial in trials)
    return min(
        (trial for trial in trials if trial.rate >= _EQUAL * peak), key=lambda trial: trial.settings.preprocessing
    )
