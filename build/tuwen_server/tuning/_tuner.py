"""A tuning: try settings, and write the best settings and all measurements into the repository."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch

from tuwen import Tls
from tuwen_files.disk_space import check_space
from tuwen_repository.checksums import sha256_of
from tuwen_repository.container_limits import usable_cores
from tuwen_repository.manifest import Manifest
from tuwen_repository.text_files import replace_text
from tuwen_server import PACKAGES
from tuwen_server.options import TuningOptions
from tuwen_server.traffic import Work, photographs, queries
from tuwen_server.tuning._configs import apply, is_for_cpus, limit_waiting, settings_of
from tuwen_server.tuning._search import search_machine, search_server
from tuwen_server.tuning._servers import NewServers, RunningServer, TrialServer
from tuwen_server.tuning._settings import ENCODERS, Settings
from tuwen_server.tuning._trial import Trial, run_trial

__all__ = ["EVIDENCE", "Tuning", "tune"]

EVIDENCE = "tuning.json"
_LIBRARIES = ("tuwen", "torch")
_SERVER = "nvidia-pytriton"
_WRITTEN = 1 << 20  # bytes, at most: configs, manifest and tuning.json


@dataclass(frozen=True)
class Tuning:
    """The result of a tuning.

    Attributes:
        device: the device that the encoders ran on, or the address of the running server.
        cores: the cores that this process may use; None: a running server was tuned.
        trials: all trials, in order.
        chosen: the best trial of each kind.
        longest_wait: the new limit on the time in a queue, in seconds; None: the limit is unchanged.
        versions: the versions of the measured software. Versions on a remote server are unknown.
    """

    device: str
    cores: int | None
    trials: Sequence[Trial]
    chosen: Mapping[str, Trial]
    longest_wait: float | None
    versions: Mapping[str, str]


def tune(
    repository: Path,
    options: TuningOptions | None = None,
    *,
    tls: Tls | None = None,
    headers: Mapping[str, str] | None = None,
    observe: Callable[[Trial], None] = lambda _: None,
) -> Tuning:
    """Find the settings with which a repository runs best, and write the settings into its configs.

    ``tuning.json`` in the repository lists every trial. Vectors and fingerprint stay the same. `search_machine` and
    `search_server` describe the trials. A server at `TuningOptions.url` gets the best settings; if the tuning fails,
    it gets its earlier settings back.

    Args:
        repository: a folder that `tuwen build` made. Nothing else may change it during the tuning.
        options: the durations and limits of the tuning, and the address of a running server, if it is tuned.
        tls: the encryption of the calls to `TuningOptions.url`; None: plain text.
        headers: the headers of the calls to `TuningOptions.url`.
        observe: a function that is called with each finished trial.

    Raises:
        NotARepositoryError: the folder is not a built repository.
        DamagedRepositoryError: files of the repository differ from the built files.
        DiskFullError: the disk of the repository is full.
        ServeError: a server cannot run the repository, or refuses to load models.
        ServerError: the server at `TuningOptions.url` does not respond.
    """
    options = options or TuningOptions()
    repository = repository.expanduser().absolute()
    manifest = Manifest.read(repository)
    manifest.check(repository)
    check_space(repository, _WRITTEN, "the tuned repository")
    trials: list[Trial] = []
    work = Work(photographs(16), queries(500_000))

    def attempt(server: TrialServer, settings: Mapping[str, Settings]) -> Mapping[str, Trial]:
        measured = {}
        for trial in run_trial(server, settings, work, options.seconds):
            trials.append(trial)
            measured[trial.kind] = trial
            observe(trial)
        return measured

    libraries = {name: version(name) for name in _LIBRARIES}
    unchanged: Collection[str] = ()
    if options.url is None:
        servers = NewServers(repository)
        cores = usable_cores()
        on_gpu = torch.cuda.is_available() and not is_for_cpus(repository, ENCODERS["images"])
        now: Mapping[str, Settings] = {kind: settings_of(repository, kind) for kind in ENCODERS}
        chosen = search_machine(lambda settings: attempt(servers, settings), now, cores=cores, on_gpu=on_gpu)
        device = torch.cuda.get_device_name() if on_gpu else torch.cpu.get_capabilities().get("cpu_name", "CPU")
        tuning = Tuning(device, cores, trials, chosen, options.longest_wait, {**libraries, _SERVER: PACKAGES[_SERVER]})
    else:
        with RunningServer(options.url, repository, key=options.key, tls=tls, headers=headers) as running:
            now = running.settings()
            chosen = search_server(lambda settings: attempt(running, settings), now)
            running.keep({kind: trial.settings for kind, trial in chosen.items()})
        unchanged = {kind for kind, trial in chosen.items() if trial.settings == now[kind]}
        tuning = Tuning(options.url, None, trials, chosen, options.longest_wait, libraries)
    _write(tuning, repository, manifest, unchanged)
    return tuning


def _write(tuning: Tuning, repository: Path, manifest: Manifest, unchanged: Collection[str]) -> None:
    for kind, trial in tuning.chosen.items():
        if kind not in unchanged:  # `tuwen serve` runs with a shorter queue delay than the configs say
            apply(repository, kind, trial.settings)
    if tuning.longest_wait is not None:
        limit_waiting(repository, dict.fromkeys(ENCODERS, tuning.longest_wait))
    replace_text(repository / EVIDENCE, json.dumps(asdict(tuning), indent=2) + "\n")
    written = [repository / EVIDENCE, *repository.glob("*/config.pbtxt")]
    hashes = {path.relative_to(repository).as_posix(): sha256_of(path) for path in written}
    replace(manifest, files={**manifest.files, **hashes}).write(repository)
