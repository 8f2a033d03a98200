"""The vectors of a dataset, from a server or from the feature files of Chinese-CLIP's ``extract_features.py``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tuwen import Client, InvalidArgumentError, ItemOutcome
from tuwen_files.text_files import numbered_lines
from tuwen_lab.datasets._rows import integer
from tuwen_lab.datasets._splits import RetrievalSplit
from tuwen_lab.evaluation._retrieval import Features

__all__ = ["embed_split", "evaluation_text", "read_features"]


def embed_split(clip: Client, split: RetrievalSplit, *, progress: bool = False) -> tuple[Features, Features]:
    """Return the vectors of a split's images and texts.

    Raises:
        InvalidArgumentError: the server rejects an item. A dataset is only evaluated if all its items are embedded.
        ServerError: the server or the connection failed.
    """
    family = clip.model_card().family
    images = _features(clip.stream_images(split.images(), progress=progress), "image")
    texts = [(number, evaluation_text(text, family)) for number, text in split.texts()]
    return images, _features(clip.stream_texts(texts, progress=progress), "text")


def evaluation_text(text: str, family: str) -> str:
    """Return a text as Chinese-CLIP's evaluation prepares it (``_preprocess_text`` in ``cn_clip/eval/data.py``).

    The evaluations of other families do not change texts.
    """
    if family != "chinese-clip":
        return text
    return text.lower().replace("“", '"').replace("”", '"')


def read_features(path: Path, kind: str) -> Features:
    """Read a feature file. Each line is ``{"image_id": 7, "feature": [...]}``, with ``text_id`` if `kind` is ``text``.

    Raises:
        InvalidArgumentError: the file is missing, or a line lacks an integer id or a list of finite numbers.
    """
    ids, vectors = [], []
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            ids.append(integer(record[f"{kind}_id"], f"field '{kind}_id'"))
            with np.errstate(over="ignore"):  # a number too large for float32 becomes infinity, which is refused
                vectors.append(np.array(record["feature"], dtype=np.float32))
            if not np.isfinite(vectors[-1]).all():
                raise ValueError("the feature holds NaN or infinity")
        except (ValueError, TypeError, KeyError, RecursionError, InvalidArgumentError) as error:
            raise InvalidArgumentError(
                f'\'{path}\', line {number}: expected {{"{kind}_id": 7, "feature": [...]}} ({error!r})'
            ) from error
    shapes = sorted({vector.shape for vector in vectors})
    if len(shapes) != 1:
        got = f"vectors of shapes {shapes}" if shapes else "no lines"
        raise InvalidArgumentError(f"'{path}': expected vectors of one length, got {got}")
    return Features(ids, np.stack(vectors))


def _features(outcomes: Iterable[ItemOutcome], kind: str) -> Features:
    ids, vectors = [], []
    for outcome in outcomes:
        if outcome.embedding is None:
            reason = outcome.error and outcome.error.message
            raise InvalidArgumentError(f"the server rejected {kind} {outcome.key} of the dataset: {reason}")
        ids.append(int(str(outcome.key)))
        vectors.append(outcome.embedding)
    if not vectors:
        raise InvalidArgumentError(f"the dataset holds no {kind}s")
    return Features(ids, np.stack(vectors))
