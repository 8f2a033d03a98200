"""The program that prints a sample of the project's docstrings, errors, help texts and comments."""

from __future__ import annotations

import pytest

from docs.sample_prose import COUNTS, Passage, main, passages, sample

SOURCE = '''"""A module."""


def fetch(path: str) -> None:
    """Fetch a file."""
    # why this is done
    # in two lines
    Option("--path", help="Path of the file.")
    raise ValueError(f"cannot read {path}: the file is missing")


def test_rejects_a_string() -> None: ...
'''


def test_finds_every_kind_of_prose() -> None:
    found = {(passage.kind, passage.line, passage.text) for passage in passages("a/b.py", SOURCE)}
    assert found == {
        ("docstring", 1, "A module."),
        ("docstring", 5, "Fetch a file."),
        ("comment", 6, "why this is done\nin two lines"),
        ("help", 8, "Path of the file."),
        ("error", 9, "cannot read {path}: the file is missing"),
        ("test", 12, "test rejects a string"),
    }


def test_finds_the_comments_of_a_config() -> None:
    assert [passage.text for passage in passages("a.yaml", "# a comment\nkey: 1  # another\nurl: a#b\n")] == [
        "a comment",
        "another",
    ]


def test_the_same_seed_draws_the_same_passages() -> None:
    pool = [Passage("error", "a.py", line, "f", str(line)) for line in range(100)]
    first = sample(pool, 7, {"error": 10, "help": 5})
    assert first == sample(pool, 7, {"error": 10, "help": 5})
    assert len(set(first)) == 10
    assert first != sample(pool, 8, {"error": 10, "help": 5})


def test_prints_a_sample_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--seed", "3", "docs"])
    printed = capsys.readouterr().out
    assert "docs/sample_prose.py" in printed
    assert 0 < printed.count(" docstring ") <= COUNTS["docstring"]


def test_rejects_an_unknown_kind(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--count", "poem=3"])
    assert "expected one of docstring, error" in capsys.readouterr().err
