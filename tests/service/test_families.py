"""For small checkpoints of every family and layout, the built files give the vectors of the original code.

`tests/system/test_published_sizes.py` compares models of published sizes. `test_parity.py` compares the vectors that a
running server returns.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.support.artefacts import Artefacts
from tests.support.checkpoints import TextSizes, VisionSizes
from tests.support.families import ALLOWED, build, differing, expected_vectors
from tests.support.originals import Originals
from tests.support.repositories import Built, tiny_checkpoint
from tests.support.rows import Row, kept_source
from tests.support.served_files import ServedFiles
from tests.support.small_rows import SMALL_ROWS
from tests.support.taiyi import embed_with_model_card
from tuwen_build.checkpoints._architecture import inferred
from tuwen_build.options import BuildOptions, Precision
from tuwen_build.verification.verify import bound
from tuwen_repository.manifest import Manifest
from tuwen_repository.samples import PHOTOGRAPHS, awkward_images, awkward_texts

IMAGES = awkward_images()
TEXTS = {entry.name: entry.text for entry in awkward_texts()}
TEXTS_OF_FEW_TOKENS = [index for index, name in enumerate(TEXTS) if name in ("short", "chinese", "empty")]

# The image tower's and the text tower's configurations in cn_clip, for each published model.
PUBLISHED = {
    "RN50": "RBT3-chinese",
    "ViT-B-16": "RoBERTa-wwm-ext-base-chinese",
    "ViT-L-14": "RoBERTa-wwm-ext-base-chinese",
    "ViT-L-14-336": "RoBERTa-wwm-ext-base-chinese",
    "ViT-H-14": "RoBERTa-wwm-ext-large-chinese",
}


def smallest_difference(vectors: NDArray[np.float32]) -> float:
    """Return the distance between the two most similar vectors: the largest difference in one component."""
    differences = np.abs(vectors[:, None] - vectors[None]).max(axis=-1)
    return float(differences[~np.eye(len(vectors), dtype=bool)].min())


@pytest.mark.parametrize("name", SMALL_ROWS)
def test_the_built_files_give_the_vectors_of_the_original(
    name: str, artefacts: Artefacts, originals: Originals
) -> None:
    row = SMALL_ROWS[name]
    source = kept_source(row, artefacts, originals)
    repository = build(source, artefacts)
    files = ServedFiles(repository)
    images, texts = expected_vectors(row, source, originals, list(IMAGES.values()), list(TEXTS.values()))

    assert images.shape == (len(IMAGES), row.dimension)
    assert texts.shape == (len(TEXTS), row.dimension)
    assert differing(list(IMAGES), files.embed_images(list(IMAGES.values())), images) == {}
    assert differing(list(TEXTS), files.embed_texts(list(TEXTS.values())), texts) == {}
    # A model that gives all items the same vector would pass the comparisons above.
    assert smallest_difference(images[:4]) > 100 * ALLOWED
    assert smallest_difference(texts[:8]) > 100 * ALLOWED

    manifest = Manifest.read(repository)
    assert manifest.family == row.family
    assert manifest.embedding_dimension == row.dimension
    assert manifest.image_size == row.image_size
    assert manifest.context_length == row.context_length


@pytest.mark.parametrize("vision", PUBLISHED)
def test_the_heads_of_every_published_model_are_inferred_from_its_weights(vision: str, originals: Originals) -> None:
    """The build infers the right number of attention heads for every published model.

    The weights do not state this number, so the build looks it up by the width of a tower.
    """
    published = originals.architecture(vision, PUBLISHED[vision])
    weights = {name: torch.empty(shape, device="meta") for name, shape in published["shapes"].items()}
    architecture = inferred(weights, vision)
    assert [architecture.vision.heads, architecture.text.heads] == published["heads"]


def test_unmasked_taiyi_gives_the_vectors_of_its_model_cards(artefacts: Artefacts, originals: Originals) -> None:
    """With the text rules ``unmasked``, vectors equal those of the code in Taiyi's model cards.

    The model cards pass no attention mask, so a vector depends on the padding. The build pads every text to 77 tokens.
    """
    row = Row("taiyi-clip", VisionSizes(96, 1, 4, 32, 64), TextSizes(96, 3, 4), 96, 64)
    source = kept_source(row, artefacts, originals)
    files = ServedFiles(build(source, artefacts, BuildOptions(text_rules="unmasked")))
    texts = list(TEXTS.values())
    got = files.embed_texts(texts)
    assert differing(list(TEXTS), got, embed_with_model_card(source.checkpoint, texts, padded=True)) == {}
    masked = embed_with_model_card(source.checkpoint, texts)
    assert (got * masked).sum(axis=1)[TEXTS_OF_FEW_TOKENS].max() < 0.99


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_every_precision_stays_within_its_bound(built: Built, precision: Precision) -> None:
    repository = built(BuildOptions(precision=precision))
    assert Manifest.read(repository).precision == precision
    photographs, texts = [IMAGES[name] for name in PHOTOGRAPHS], ["一只猫", "a dog", "火箭发射"]
    files, exact = ServedFiles(repository), ServedFiles(built())
    for got, expected in (
        (files.embed_images(photographs), exact.embed_images(photographs)),
        (files.embed_texts(texts), exact.embed_texts(texts)),
    ):
        distances = np.linalg.norm(got - expected, axis=1)
        assert (distances > 1e-5).all(), "the encoder was not converted"
        assert (distances < bound(precision, depth=3).distance).all()


class TestComparison:
    """The comparison `differing`, which the tests of this module use, finds wrong vectors."""

    def test_notices_other_weights(self, built: Built, artefacts: Artefacts, originals: Originals) -> None:
        images, texts = list(IMAGES.values()), list(TEXTS.values())
        expected = originals.embeddings("cn_clip", tiny_checkpoint(artefacts), images, texts)
        wrong = ServedFiles(built(seed=1))
        assert differing(list(IMAGES), wrong.embed_images(images), expected[0]).keys() == IMAGES.keys()
        assert differing(list(TEXTS), wrong.embed_texts(texts), expected[1]).keys() == TEXTS.keys()

    def test_notices_another_resize_and_another_tokenizer(self, repository: Path, tmp_path: Path) -> None:
        broken = Path(shutil.copytree(repository, tmp_path / "repository"))
        for file, right, wrong in (
            ("image_preprocessing/1/pixels.py", "Resampling.BICUBIC", "Resampling.BILINEAR"),
            ("text_tokenization/1/wordpiece.py", ".lower()", ""),
        ):
            code = (broken / file).read_text(encoding="utf-8")
            assert right in code
            (broken / file).write_text(code.replace(right, wrong), encoding="utf-8")
        images, texts = [IMAGES["cat.jpg"], IMAGES["1x1.png"]], ["A photo of a Cat", "一只猫"]
        right, wrong = ServedFiles(repository), ServedFiles(broken)
        assert differing(["cat", "1x1"], wrong.embed_images(images), right.embed_images(images)).keys() == {"cat"}
        assert differing(["en", "zh"], wrong.embed_texts(texts), right.embed_texts(texts)).keys() == {"en"}

    def test_notices_swapped_items_and_nan_vectors(self) -> None:
        vectors = np.eye(3, dtype=np.float32)
        assert differing(list("abc"), vectors, vectors) == {}
        assert differing(list("abc"), vectors[[1, 0, 2]], vectors) == {"a": 1.0, "b": 1.0}
        assert differing(list("abc"), vectors * np.nan, vectors).keys() == {"a", "b", "c"}
        assert differing(["a"], vectors[:1] + np.float32(2e-5), vectors[:1]).keys() == {"a"}
