"""If `tuwen loadtest` is killed, the Locust process that it started removes its samples and ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuwen_loadtest._parent import PARENT, end_with_parent


class Ancestry:
    """A fake process with given parents. It records in `done` that it slept or ended.

    Args:
        parents: the ID of the parent process, for each time that the process asks for it.
    """

    def __init__(self, *parents: int) -> None:
        self._parents = list(parents)
        self.done: list[str] = []

    def parent(self) -> int:
        return self._parents.pop(0)

    def sleep(self, seconds: float) -> None:
        self.done.append(f"slept {seconds:g} s")

    def end(self, code: int) -> None:
        self.done.append(f"ended with {code}")

    def watch(self, samples: Path | None) -> None:
        end_with_parent(samples, sleep=self.sleep, parent=self.parent, end=self.end)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Return a file with samples, which is the only file in its folder."""
    file = tmp_path / "folder" / "samples.npz"
    file.parent.mkdir()
    file.touch()
    return file


def test_locust_ends_and_removes_the_samples_when_its_parent_has_died(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PARENT, "77")
    ancestry = Ancestry(77, 77, 1)
    ancestry.watch(samples)
    assert ancestry.done == ["slept 1 s", "slept 1 s", "ended with 1"]
    assert not samples.parent.exists()


def test_locust_ends_at_once_if_its_parent_died_before_the_first_look(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PARENT, "77")
    ancestry = Ancestry(1)
    ancestry.watch(samples)
    assert ancestry.done == ["ended with 1"]


def test_other_files_in_the_folder_of_the_samples_stay(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PARENT, "77")
    other = samples.with_name("report.html")
    other.touch()
    Ancestry(1).watch(samples)
    assert list(other.parent.iterdir()) == [other]


def test_locust_watches_no_parent_if_a_user_started_it(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PARENT, raising=False)
    ancestry = Ancestry()
    ancestry.watch(samples)
    assert ancestry.done == []
    assert samples.exists()
