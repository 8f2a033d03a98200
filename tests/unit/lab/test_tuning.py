"""The tuning of a server: the settings that it tries, its choice of the best, and errors before the first trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from tests.support.command import tuwen
from tests.support.stand_in import write_repository
from tuwen_repository.configs import config_path, read_config
from tuwen_server._remote import RemoteControl
from tuwen_server.errors import ModelControlError
from tuwen_server.tuning import Settings, Trial, _tuner, tune
from tuwen_server.tuning._configs import apply, settings_of
from tuwen_server.tuning._search import best_of, best_threads, fewest_instances, search_server
from tuwen_server.tuning._settings import layouts, preprocessing_counts


def test_tries_every_split_of_a_cpu_and_one_instance_on_a_gpu() -> None:
    assert layouts(1, on_gpu=False) == [(1, 1)]
    assert layouts(6, on_gpu=False) == [(1, 6), (2, 3), (4, 1)]
    assert layouts(96, on_gpu=False) == [(1, 96), (2, 48), (4, 24), (8, 12)]
    assert layouts(96, on_gpu=True) == [(1, 0)]


def test_among_equal_rates_the_lowest_latency_for_one_caller_wins() -> None:
    def trial(rate: float, alone: float, kind: str = "images") -> Trial:
        return Trial(kind, Settings(1, 1, 100), rate, 4.0, alone)

    slow, noise, best = trial(90, 0.01), trial(100, 0.05), trial(98, 0.02)
    assert best_of([slow, noise, best, trial(500, 0.001, "texts")], "images") is best


class TestThreads:
    """The number of threads, which is the same for both encoders.

    NVIDIA's C++ backend uses one number for all models, which is the number of the first model that it loads.
    """

    @staticmethod
    def trial(kind: str, threads: int, rate: float, alone: float = 0.01) -> Trial:
        return Trial(kind, Settings(4 // threads, threads, 100), rate, 4.0, alone)

    def test_both_encoders_get_the_number_that_suits_them_together(self) -> None:
        trials = [self.trial("images", 1, 100), self.trial("images", 2, 95), self.trial("images", 4, 60)]
        trials += [self.trial("texts", 1, 500), self.trial("texts", 2, 950), self.trial("texts", 4, 1000)]
        threads = best_threads(trials)
        assert threads == 2
        assert [best_of(trials, kind, threads).rate for kind in ("images", "texts")] == [95, 950]

    def test_among_equal_rates_the_number_with_the_lowest_latency_wins(self) -> None:
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
    """The number of preprocessing processes.

    A process decodes several images at the same time, until its interpreter lock becomes the limit.
    """

    @staticmethod
    def measured(rates: Mapping[int, float], tried: list[tuple[str, int]]) -> Callable[..., Iterator[Trial]]:
        """Return a function that replaces `run_trial`, and reports known rates of images.

        Args:
            rates: the rate of images by the number of preprocessing processes.
            tried: a list to which each trial appends its kind and its number of processes.
        """

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

    def test_there_is_at_most_one_process_for_eight_cores(self) -> None:
        assert [preprocessing_counts(cores) for cores in (2, 15, 16, 32, 96)] == [
            [1],
            [1],
            [1, 2],
            [1, 2, 4],
            [1, 2, 4, 8],
        ]

    def test_the_best_number_is_written_into_the_config_of_images_only(
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

    def test_among_equal_rates_the_smallest_number_wins(self) -> None:
        trials = [Trial("images", Settings(1, 1, 100, count), rate, 4.0, 0.01) for count, rate in ((4, 100), (1, 98))]
        assert fewest_instances(trials).settings.preprocessing == 1


class TestServerThatRuns:
    """The tuning of a running server with an unknown number of cores, such as NVIDIA's container on a GPU."""

    NOW: Mapping[str, Settings] = {"images": Settings(1, 2, 100), "texts": Settings(1, 2, 100)}

    @staticmethod
    def attempt(
        rate: Callable[[str, Settings], float], tried: list[Mapping[str, Settings]]
    ) -> Callable[[Mapping[str, Settings]], Mapping[str, Trial]]:
        def run(settings: Mapping[str, Settings]) -> Mapping[str, Trial]:
            tried.append(settings)
            return {kind: Trial(kind, of, rate(kind, of), 4.0, 0.01) for kind, of in settings.items()}

        return run

    def test_one_instance_stays_if_a_second_one_is_not_faster(self) -> None:
        tried: list[Mapping[str, Settings]] = []
        chosen = search_server(self.attempt(lambda *_: 100.0, tried), self.NOW)
        assert {kind: trial.settings.instances for kind, trial in chosen.items()} == {"images": 1, "texts": 1}
        assert max(settings["images"].instances for settings in tried) == 2

    def test_instances_and_processes_are_doubled_while_the_rate_rises(self) -> None:
        def rate(kind: str, of: Settings) -> float:
            return min(1000.0 * of.instances, 2000.0) + 100.0 * min(of.preprocessing, 4) * (kind == "images")

        tried: list[Mapping[str, Settings]] = []
        chosen = search_server(self.attempt(rate, tried), self.NOW)
        assert {kind: trial.settings.instances for kind, trial in chosen.items()} == {"images": 2, "texts": 2}
        assert chosen["images"].settings.preprocessing == 4
        assert [settings["images"].preprocessing for settings in tried[-3:]] == [2, 4, 8]

    def test_the_threads_stay_as_they_are(self) -> None:
        tried: list[Mapping[str, Settings]] = []
        search_server(self.attempt(lambda _, of: of.instances * 100.0, tried), self.NOW)
        assert {of.threads for settings in tried for of in settings.values()} == {2}


class TestControl:
    """The loading of models on a running server that `tuwen` did not start."""

    @pytest.mark.parametrize(
        ("refusal", "advice"),
        [
            ("explicit model load / unload is not allowed if polling is enabled", "--model-control-mode=explicit"),
            ("This protocol is restricted, expecting header 'triton-grpc-protocol-tuwen'", "set TUWEN_SERVER_KEY"),
            ("failed to load 'vision_encoder', CUDA out of memory", "read the server's log"),
        ],
    )
    def test_a_refusal_names_the_server_the_model_and_the_remedy(
        self, monkeypatch: pytest.MonkeyPatch, refusal: str, advice: str
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise InferenceServerException(refusal)

        monkeypatch.setattr(InferenceServerClient, "load_model", refuse)
        control = RemoteControl("localhost:1")
        with pytest.raises(ModelControlError, match=f"localhost:1 could not load vision_encoder.*{advice}"):
            control.load("vision_encoder", ModelConfig())
        control.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--url", "localhost:1"), "is not a built repository"),
        ((), "is not a built repository"),
        (("--seconds", "0"), "seconds: expected a finite number above 0, got 0"),
        (("--seconds", "inf"), "seconds: expected a finite number above 0, got inf"),
        (("--longest-wait", "nan"), "longest_wait: expected a finite number above 0, got nan"),
        (("--longest-wait", "-1"), "longest_wait: expected a finite number above 0, got -1"),
    ],
)
def test_the_command_refuses_a_folder_or_option_that_it_cannot_use(
    tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    assert message in tuwen("tune", str(tmp_path), *options, code=1).stderr


def test_the_models_of_a_repository_with_a_name_are_tuned(tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "repository")
    for path in [path for path in repository.iterdir() if path.is_dir()]:
        path.rename(repository / f"b16_{path.name}")
    apply(repository, "texts", Settings(instances=3, threads=2, delay_microseconds=700))
    found = settings_of(repository, "texts")
    assert (found.instances, found.threads, found.delay_microseconds) == (3, 2, 700)
    config = read_config(config_path(repository, "b16_text_encoder"))
    assert config.instance_group[0].count == 3
    assert not (repository / "text_encoder").exists()
