"""Coverage-guided fuzzing (atheris) of the pure cores that see untrusted bytes.

    python -m tests.faults.fuzz pixels|tokens [libFuzzer's arguments, such as -max_total_time=60]

An item that takes more than half a second of one core is a finding, too. A run starts from, and adds to,
``tests/faults/corpus``, which ``tests/unit/models/test_corpus.py`` replays without atheris.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.models import model_module
from tuwen_build.samples import vocabulary

__all__ = ["CORPUS", "TARGETS"]

CORPUS = Path(__file__).parent / "corpus"
_REASONS = {
    *("empty", "too_many_bytes", "unsupported_format", "too_many_pixels"),
    *("too_many_frames", "too_many_parts", "too_many_scans", "corrupt"),
}
_SECONDS_PER_ITEM = 0.5  # of one core, while `check` runs; a good item takes a few milliseconds
_CONTEXT_LENGTH = 52


def _pixels() -> Callable[[bytes], None]:
    core = model_module("image_preprocessing", "pixels")
    limits = core.ImageLimits(max_pixels=1_000_000, max_frames=50)  # so that a run is quick
    ways = [
        core.Preprocessor(32, resize, rules, limits, decoding)
        for resize in ("squash", "crop")
        for rules in ("reference", "display")
        for decoding in ("full", "scaled")
    ]

    def check(data: bytes) -> None:
        """Pixels of the right shape, or a refusal with a known reason; nothing else, ever."""
        for way in ways:
            try:
                found = way.pixel_values(data)
            except core.ImageError as error:
                assert error.reason in _REASONS, error.reason
            else:
                assert found.shape == (3, 32, 32)
                assert found.dtype == np.uint8

    return check


def _tokens() -> Callable[[bytes], None]:
    tokens, wordpiece = model_module("text_tokenization", "tokens"), model_module("text_tokenization", "wordpiece")
    words = vocabulary().read_text(encoding="utf-8").split("\n")[:-1]
    rules = wordpiece.ChineseClipWordPiece({token: index for index, token in enumerate(words)})
    tokenizer = tokens.TextTokenizer(rules, context_length=_CONTEXT_LENGTH)

    def check(data: bytes) -> None:
        """Ids of the vocabulary between a start and an end, and zeros; the same alone and in a batch."""
        text = data.decode("utf-8", "ignore")
        found = tokenizer.encode([text, "猫"])
        alone = tokenizer.encode([text])
        assert (found.input_ids[0] == alone.input_ids[0]).all()
        ids, mask = found.input_ids[0], found.attention_mask[0]
        assert ids.shape == mask.shape == (_CONTEXT_LENGTH,)
        length = int(mask.sum())
        assert 2 <= length <= _CONTEXT_LENGTH
        assert (mask[:length] == 1).all()
        assert (ids[length:] == 0).all()
        assert (ids[0], ids[length - 1]) == (rules.start, rules.end)
        assert ids.min() >= 0
        assert ids.max() < len(words)

    return check


TARGETS: Mapping[str, Callable[[], Callable[[bytes], None]]] = {"pixels": _pixels, "tokens": _tokens}


def main(name: str, arguments: list[str]) -> None:
    import atheris

    check = TARGETS[name]()
    atheris.instrument_all()

    def one(data: bytes) -> Any:
        start = time.process_time()
        check(data)
        seconds = time.process_time() - start
        assert seconds < _SECONDS_PER_ITEM, f"{len(data)} bytes took {seconds:.2f} s of one core"

    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    atheris.Setup([sys.argv[0], str(CORPUS / name), *arguments], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
