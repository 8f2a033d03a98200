"""The names of the texts on the page, and the languages of the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Language", "Words"]

Language = Literal["zh", "en"]


@dataclass(frozen=True)
class Words:
    """All texts of the page in one language, with placeholders in braces."""

    tag: str
    other: str
    title: str
    skip: str
    look_for: str
    look_for_other: str
    search: str
    searching: str
    without: str
    without_hint: str
    choose: str
    drop: str
    remove: str
    your_picture: str
    like_picture: str
    query_picture: str
    missing: str
    choose_picture: str
    words_only: str
    remove_picture: str
    remove_without: str
    first_page: str
    back: str
    weight: str
    weight_low: str
    weight_high: str
    filters: str
    least: str
    at_least: str
    at_most: str
    least_all: str
    least_low: str
    least_high: str
    least_means: str
    least_best: str
    least_none: str
    least_calibrated: str
    least_other: str
    no_filters: str
    apply: str
    show_found: str
    counts_of_all: str
    clear: str
    clear_least: str
    clear_all: str
    remove_filter: str
    suggestions: str
    suggestions_other: str
    sample: str
    results: str
    one_picture: str
    pictures: str
    shown: str
    all_closest: str
    filtered_closest: str
    range: str
    earlier: str
    more_than: str
    empty: str
    nothing: str
    nothing_fits: str
    hidden: str
    some_hidden: str
    weak_too: str
    show_below: str
    pages: str
    page: str
    previous_page: str
    next_page: str
    like_this: str
    details: str
    close: str
    previous: str
    next: str
    position: str
    original: str
    download: str
    thumbnail_only: str
    name: str
    source: str
    size: str
    score: str
    score_means: str
    score_part: str
    score_weight: str
    score_cosine: str
    labels: str
    labels_given: str
    classify: str
    answers: str
    other_answers: str
    two_labels: str
    cut: str
    too_long: str
    both: str
    same: str
    no_picture: str
    forgotten: str
    like_gone: str
    gone: str
    too_large: str
    no_file: str
    too_far: str
    filter_lost: str
    model_away: str
    model_busy: str
    model_other: str
    model_wrong: str
    store_away: str
    failed: str
    page_away: str
    retrying: str
    try_again: str
    dismiss: str
    about: str
    times: str
    model: str

    def counted(self, count: int | str) -> str:
        """Return the text for a number of pictures, such as ``1 picture`` or ``20 pictures``.

        Args:
            count: the number, or a text that contains the number.
        """
        written = count if isinstance(count, str) else f"{count:,}"
        return self.one_picture if written == "1" else self.pictures.format(count=written)
