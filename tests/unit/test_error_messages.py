"""The page of error messages: every error class has an example, and the page lists every message of the sources.

Tests in `unit/` and `contract/` reach nearly every place that raises an error. These places need more:

- `tests/service/`: a tokenizer that differs (`verification/verify.py`), merges of a damaged ``tokenizer.json``, and a
  hub that does not answer or lacks a model (`tuwen_lab/published`).
- `tests/system/`: a Parquet file without the column (`tuwen_files/ray_data.py`).
- no test: an image tower of RN50 with weights of another shape, a picture whose new path is too long for Milvus while
  a source moves, a channel that gRPC itself cancels, and a deadline or warm-up of Locust's web page that is not finite.
"""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from docs.error_examples import EXAMPLES, Example
from docs.error_table import error_classes, error_sites, main, raised


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.error)
def test_every_example_raises_its_error(example: Example) -> None:
    error = raised(example)
    assert type(error).__name__ == example.error, f"{type(error).__name__}: {error}"
    assert str(error)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.error)
def test_the_page_and_the_error_agree_on_retries(example: Example) -> None:
    """If an error has the attribute `retryable`, the page advises for or against a retry accordingly."""
    retryable = getattr(raised(example), "retryable", None)
    assert retryable is None or retryable == example.retry


def test_every_error_that_the_sources_make_has_an_example() -> None:
    made = {site.error for site in error_sites()}
    bases = {base for names in error_classes().values() for base in names}
    shown = [example.error for example in EXAMPLES]
    assert sorted(set(shown)) == sorted(shown)
    assert (set(error_classes()) - bases) | made == set(shown)


def test_the_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out
