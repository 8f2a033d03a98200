"""The items that a load test sends, its options, and its number of users over time."""

from __future__ import annotations

import collections
import io
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from tuwen import InvalidArgumentError, Tls
from tuwen_loadtest._connection import Connection
from tuwen_loadtest._payloads import Payloads
from tuwen_loadtest._session import KINDS
from tuwen_loadtest._users_over_time import users_at
from tuwen_loadtest.options import LoadTestOptions, PayloadOptions, RequestKind, ScenarioName, Shape
from tuwen_loadtest.scenarios import SCENARIOS
from tuwen_repository.samples import sample


@pytest.fixture(scope="module")
def payloads() -> Payloads:
    return Payloads(PayloadOptions())


class TestPayloads:
    def test_photographs_have_the_sizes_of_phones_and_shops(self, payloads: Payloads) -> None:
        sizes = collections.Counter(Image.open(io.BytesIO(payloads.image())).size for _ in range(32))
        assert len(sizes) == 6
        assert sizes[640, 480] == 8
        assert sizes[4032, 3024] == 1

    def test_the_hundred_most_frequent_queries_are_a_third_of_all_queries(self, payloads: Payloads) -> None:
        asked = collections.Counter(payloads.query() for _ in range(20_000))
        often = sum(count for _, count in asked.most_common(100))
        assert 0.3 < often / 20_000 < 0.45  # Zipf with s = 1 over a million: H(100) / H(1,000,000) = 0.36
        assert len(asked) > 6_000

    def test_without_skew_hardly_any_query_repeats(self) -> None:
        payloads = Payloads(PayloadOptions(images=sample("cat.jpg").parent, skew=0))
        asked = collections.Counter(payloads.query() for _ in range(20_000))
        assert len(asked) > 18_000  # some queries are short

    def test_equal_seeds_send_the_same_queries(self) -> None:
        def sent(seed: int) -> list[str]:
            payloads = Payloads(PayloadOptions(images=sample("cat.jpg").parent, seed=seed))
            return [payloads.query() for _ in range(50)]

        assert sent(0) == sent(0) != sent(1)

    def test_pictures_and_queries_of_the_user_are_sent(self, tmp_path: Path) -> None:
        (tmp_path / "deep").mkdir()
        picture = sample("cat.jpg").read_bytes()
        (tmp_path / "deep" / "a.JPG").write_bytes(picture)
        (tmp_path / "queries.txt").write_text("猫\n\n狗\n", encoding="utf-8")
        payloads = Payloads(PayloadOptions(images=tmp_path, queries=tmp_path / "queries.txt"))
        assert payloads.image() == picture == payloads.image()
        assert {payloads.query() for _ in range(100)} == {"猫", "狗"}

    def test_rejects_folders_and_files_with_nothing_to_send(self, tmp_path: Path) -> None:
        (tmp_path / "empty.txt").write_text("\n", encoding="utf-8")
        (tmp_path / "latin.txt").write_bytes(b"\xe9")
        for options, message in (
            (PayloadOptions(images=tmp_path), "expected pictures in .*, found no file that ends in"),
            (
                PayloadOptions(images=sample("cat.jpg").parent, queries=tmp_path / "empty.txt"),
                "expected one query in each line of .*, got a file without text",
            ),
            (PayloadOptions(images=sample("cat.jpg").parent, queries=tmp_path / "latin.txt"), "is not UTF-8"),
            (PayloadOptions(images=sample("cat.jpg").parent, queries=tmp_path / "none.txt"), "cannot read"),
        ):
            with pytest.raises(InvalidArgumentError, match=message):
                Payloads(options)
        with pytest.raises(InvalidArgumentError, match="skew: expected a finite number of at least 0"):
            PayloadOptions(skew=-1)
        with pytest.raises(InvalidArgumentError, match="skew: expected a finite number of at least 0"):
            PayloadOptions(skew=float("nan"))


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ("steady", [80, 80, 80, 80, 80]),
        ("ramp", [10, 20, 50, 70, 80]),
        ("spike", [20, 20, 80, 20, 20]),
    ],
)
def test_each_shape_has_the_expected_users_over_time(shape: str, wanted: list[int]) -> None:
    assert [users_at(shape, 80, progress) for progress in (0.0, 0.2, 0.5, 0.8, 0.99)] == wanted


def test_every_choice_of_the_options_is_implemented() -> None:
    assert get_args(RequestKind) == tuple(KINDS)
    assert get_args(ScenarioName) == tuple(SCENARIOS)
    assert len({tuple(users_at(shape, 80, place / 8) for place in range(8)) for shape in get_args(Shape)}) == 3


def test_rejects_options_that_contradict_each_other() -> None:
    for options, message in (
        ({"rate": 1.0, "users": 1}, "got rate and users"),
        ({"rate": 1.0, "scenario": "overload"}, "got rate and scenario"),
        ({"scenario": "war"}, "scenario: expected one of overload, restart, bad-clients, got 'war'"),
        ({"scenario": "overload", "seconds": 12.0}, "warmup: expected less than 4 seconds"),
        ({"rate": 0.0}, "rate: expected a finite number above 0"),
        ({"rate": float("inf")}, "rate: expected a finite number above 0, got inf"),
        ({"seconds": float("inf")}, "seconds: expected a finite number above 0"),
        ({"seconds": float("nan")}, "seconds: expected a finite number above 0"),
        ({"repetitions": 0}, "repetitions: expected a number of at least 1"),
        ({"seconds": 5.0, "warmup": 5.0}, "warmup: expected less than 5 seconds"),
        ({"shape": "round"}, "shape: expected one of steady, ramp, spike"),
        ({"kinds": ["video"]}, "kinds: expected one of text, image, similarity, bulk, got 'video'"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            LoadTestOptions(**options)


class TestConnection:
    def test_locust_gets_the_connection_from_its_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = Connection("clip:8001", Tls(ca="/etc/ca.pem"), {"authorization": "Bearer secret", "x-tenant": "a:b"})
        for name, value in told.to_environment().items():
            monkeypatch.setenv(name, value)
        found = Connection.from_environment("clip:8001")
        assert (found.url, found.headers) == (told.url, told.headers)
        assert found.tls == told.tls
        assert "secret" not in repr(found)

    def test_an_empty_environment_is_a_connection_without_encryption(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert Connection.from_environment("clip:8001") == Connection("clip:8001")
        monkeypatch.setenv("TUWEN_TLS", "1")
        assert Connection.from_environment("clip:8001").tls == Tls()

    def test_rejects_a_header_without_a_colon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TUWEN_HEADERS", "secret")
        with pytest.raises(InvalidArgumentError, match="without a colon"):
            Connection.from_environment("clip:8001")
