"""Which settings a tuning tries, which of them it takes for the best, and what it refuses before a trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.command import tuwen
from tests.support.stand_in import write_repository
from tuwen_repository.configs import config_path, read_config
from tuwen_server.tuning import Settings, Trial, _tuner, tune
from tuwen_server.tuning._settings import layouts, preprocessing_counts
from tuwen_server.tuning._tuner import best_of, best_threads, enough_preprocessing


def test_splits_a_cpu_in_every_way_and_gives_a_gpu_one_instance() -> None:
    assert layouts(1, on_gpu=False) == [(1, 1)]
    assert layouts(6, on_gpu=False) == [(1, 6), (2, 3), (4, 1)]
    assert layouts(96, on_gpu=False) == [(1, 96), (2, 48), (4, 24), (8, 12)]
    assert layouts(96, on_gpu=True) == [(1, 0)]


def test_of_equally_fast_settings_the_quickest_for_one_caller_is_best() -> None:
    def trial(rate: float, alone: float, kind: str = "images") -> Trial:
        return Trial(kind, Settings(1, 1, 100), rate, 4.0, alone)

    slow, noise, best = trial(90, 0.01), trial(100, 0.05), trial(98, 0.02)
    assert best_of([slow, noise, best, trial(500, 0.001, "texts")], "images") is best


class TestThreads:
    """NVIDIA's C++ backend has one number of threads for all models, that of the model that it loads first."""

    @staticmethod
    def trial(kind: str, threads: int, rate: float, alone: float = 0.01) -> Trial:
        return Trial(kind, Settings(4 // threads, threads, 100), rate, 4.0, alone)

    def test_both_encoders_get_the_number_that_suits_them_together(self) -> None:
        trials = [self.trial("images", 1, 100), self.trial("images", 2, 95), self.trial("images", 4, 60)]
        trials += [self.trial("texts", 1, 500), self.trial("texts", 2, 950), self.trial("texts", 4, 1000)]
        threads = best_threads(trials)
        assert threads == 2
        assert [best_of(trials, kind, threads).rate for kind in ("images", "texts")] == [95, 950]

    def test_of_numbers_that_are_equally_fast_the_quickest_for_one_caller_is_best(self) -> None:
        trials = [self.trial("images", 1, 100, 0.09), self.trial("images", 4, 99, 0.03)]
        trials += [self.trial("texts", 1, 1000, 0.02), self.trial("texts", 4, 1000, 0.01)]
        assert best_threads(trials) == 4

    def test_tuning_writes_one_number_into_both_configs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        repository = write_repository(tmp_path / "repository")
        rates = {("images", 1): 100.0, ("images", 2): 90.0, ("texts", 1): 100.0, ("texts", 2): 400.0}

        def measured(_: Path, settings: Mapping[str, Settings], *__: object) -> Iterator[Trial]:
            for kind, of in settings.items():
                yield Trial(kind, of, rates[kind, of.threads], 4.0, 0.01)

        monkeypatch.setattr(_tuner, "run_trial", measured)
        monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
        monkeypatch.setattr(_tuner, "photographs", lambda _: [])
        monkeypatch.setattr(_tuner, "queries", lambda _: [])
        tune(repository)
        configs = [read_config(config_path(repository, model)) for model in ("vision_encoder", "text_encoder")]
        assert [config.parameters["INTRA_OP_THREAD_COUNT"].string_value for config in configs] == ["2", "2"]
        assert [config.instance_group[0].count for config in configs] == [1, 1]


class TestPreprocessing:
    """One process decodes several images at once, until its interpreter lock is the limit."""

    @staticmethod
    def measured(rates: Mapping[int, float], tried: list[tuple[str, int]]) -> Callable[..., Iterator[Trial]]:
        """Return a stand-in for trials, in which images are as fast as their number of processes allows."""

        def run(_: Path, settings: Mapping[str, Settings], *__: object) -> Iterator[Trial]:
            for kind, of in settings.items():
                tried.append((kind, of.preprocessing))
                yield Trial(kind, of, rates[of.preprocessing] if kind == "images" else 100.0, 4.0, 0.01)

        return run

    @staticmethod
    def tuned(folder: Path, monkeypatch: pytest.MonkeyPatch, cores: int, run: Callable[..., Iterator[Trial]]) -> Path:
        monkeypatch.setattr(_tuner, "run_trial", run)
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
        monkeypatch.setattr(_tuner, "photographs", lambda _: [])
        monkeypatch.setattr(_tuner, "queries", lambda _: [])
        repository = write_repository(folder / "repository")
        tune(repository)
        return repository

    def test_each_process_has_eight_cores(self) -> None:
        assert [preprocessing_counts(cores) for cores in (2, 15, 16, 32, 96)] == [
            [1],
            [1],
            [1, 2],
            [1, 2, 4],
            [1, 2, 4, 8],
        ]

    def test_the_fastest_number_is_written_into_the_configs_of_images_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tried: list[tuple[str, int]] = []
        rates = {1: 2500.0, 2: 4800.0, 4: 4850.0}
        repository = self.tuned(tmp_path, monkeypatch, 32, self.measured(rates, tried))
        assert tried[-2:] == [("images", 2), ("images", 4)]
        counts = [
            read_config(config_path(repository, model)).instance_group[0].count
            for model in ("image_preprocessing", "text_tokenization")
        ]
        assert counts == [2, 1]

    def test_on_few_cores_the_number_stays_as_it_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tried: list[tuple[str, int]] = []
        repository = self.tuned(tmp_path, monkeypatch, 2, self.measured({1: 10.0}, tried))
        assert {count for _, count in tried} == {1}
        assert read_config(config_path(repository, "image_preprocessing")).instance_group[0].count == 1

    def test_of_equally_fast_numbers_the_smallest_is_enough(self) -> None:
        trials = [Trial("images", Settings(1, 1, 100, count), rate, 4.0, 0.01) for count, rate in ((4, 100), (1, 98))]
        assert enough_preprocessing(trials).settings.preprocessing == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "is not a built repository"),
        (("--seconds", "0"), "seconds: expected a finite number above 0, got 0"),
        (("--seconds", "inf"), "seconds: expected a finite number above 0, got inf"),
        (("--longest-wait", "nan"), "longest_wait: expected a finite number above 0, got nan"),
        (("--longest-wait", "-1"), "longest_wait: expected a finite number above 0, got -1"),
    ],
)
def test_says_what_cannot_be_tuned(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    assert message in tuwen("tune", str(tmp_path), *options, code=1).stderr
