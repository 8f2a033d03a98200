"""For every published checkpoint in the documentation, the built files give the vectors of the original code.

The checkpoints have random weights and the published widths. Large models have only two layers, to save time and
memory. Two of the models are also compared through a running server.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.reference.characters import every_character
from tests.support.character_ids import differing_characters
from tests.support.checkpoints import TextSizes, VisionSizes
from tests.support.families import ALLOWED, differing, expected_vectors
from tests.support.originals import Originals
from tests.support.rows import Row, write
from tests.support.served_files import ServedFiles
from tests.support.servers import RecordedServer
from tuwen import Client
from tuwen_build.repository import ReadOptions, build_repository
from tuwen_repository.samples import PHOTOGRAPHS, awkward_images, awkward_texts

IMAGES = awkward_images()
TEXTS = {entry.name: entry.text for entry in awkward_texts()}
# Models with all layers embed images of every mode and shape. Models with two layers embed only these images.
FEW_IMAGES = (*PHOTOGRAPHS, "horse.png", "palette.png", "exif_rotated.jpg", "8000x20.jpg", "1x1.png", "one_bit.png")

B16 = VisionSizes(768, 12, 12, 16)
B32 = VisionSizes(768, 12, 12, 32)
L14 = VisionSizes(1024, 2, 16, 14)
L14_336 = VisionSizes(1024, 2, 16, 14, 336)
H14 = VisionSizes(1280, 2, 16, 14)
BASE, BASE_SHORT = TextSizes(768, 12, 12), TextSizes(768, 2, 12)
LARGE = TextSizes(1024, 2, 16)
CN_BASE, CN_LARGE = "RoBERTa-wwm-ext-base-chinese", "RoBERTa-wwm-ext-large-chinese"
SHORT = {"vision_layers": 2, "text_num_hidden_layers": 2}

ROWS = {
    "chinese-clip-vit-base-patch16": Row("chinese-clip", B16, BASE, 512),
    "chinese-clip-vit-large-patch14": Row("chinese-clip", L14, BASE_SHORT, 768),
    "chinese-clip-vit-large-patch14-336px": Row("chinese-clip", L14_336, BASE_SHORT, 768, 336),
    "chinese-clip-vit-huge-patch14": Row("chinese-clip", H14, LARGE, 1024),
    "clip_cn_rn50.pt": Row("native", "RN50", "RBT3-chinese", 1024),
    "clip_cn_vit-b-16.pt": Row("native", "ViT-B-16", CN_BASE, 512),
    "clip_cn_vit-l-14.pt": Row("native", "ViT-L-14", CN_BASE, 768, 224, SHORT),
    "clip_cn_vit-l-14-336.pt": Row("native", "ViT-L-14-336", CN_BASE, 768, 336, SHORT),
    "clip_cn_vit-h-14.pt": Row("native", "ViT-H-14", CN_LARGE, 1024, 224, SHORT),
    "damo/multi-modal_clip-vit-base-patch16_zh": Row("modelscope", "ViT-B-16", CN_BASE, 512, 224, SHORT),
    "damo/multi-modal_clip-vit-large-patch14_zh": Row("modelscope", "ViT-L-14", CN_BASE, 768, 224, SHORT),
    "damo/multi-modal_clip-vit-large-patch14_336_zh": Row("modelscope", "ViT-L-14-336", CN_BASE, 768, 336, SHORT),
    "damo/multi-modal_clip-vit-huge-patch14_zh": Row("modelscope", "ViT-H-14", CN_LARGE, 1024, 224, SHORT),
    "openai/clip-vit-base-patch32": Row("openai-clip", B32, TextSizes(512, 12, 8), 512),
    "openai/clip-vit-base-patch16": Row("openai-clip", replace(B16, layers=2), TextSizes(512, 2, 8), 512),
    "openai/clip-vit-large-patch14": Row("openai-clip", L14, TextSizes(768, 2, 12), 768),
    "openai/clip-vit-large-patch14-336": Row("openai-clip", L14_336, TextSizes(768, 2, 12), 768, 336),
    "Taiyi-CLIP-RoBERTa-102M-ViT-L-Chinese": Row("taiyi-clip", L14, BASE, 768),
    "Taiyi-CLIP-Roberta-102M-Chinese": Row("taiyi-clip", B32, BASE, 512, projected=True),
    "Taiyi-CLIP-Roberta-large-326M-Chinese": Row("taiyi-clip", L14, LARGE, 768, projected=True),
}
OF_ALL_LAYERS = {
    "chinese-clip-vit-base-patch16",
    "clip_cn_rn50.pt",
    "clip_cn_vit-b-16.pt",
    "openai/clip-vit-base-patch32",
    "Taiyi-CLIP-RoBERTa-102M-ViT-L-Chinese",
    "Taiyi-CLIP-Roberta-102M-Chinese",
}
SERVED = {"chinese-clip-vit-base-patch16", "openai/clip-vit-base-patch32"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder that is removed after each test, because all checkpoints together take many gigabytes."""
    with TemporaryDirectory() as name:
        yield Path(name)


def smallest_difference(vectors: NDArray[np.float32]) -> float:
    """Return the distance between the two most similar vectors: the largest difference in one component."""
    differences = np.abs(vectors[:, None] - vectors[None]).max(axis=-1)
    return float(differences[~np.eye(len(vectors), dtype=bool)].min())


@pytest.mark.parametrize("name", ROWS)
def test_a_checkpoint_of_published_width_gives_the_vectors_of_the_original(
    name: str, folder: Path, originals: Originals
) -> None:
    row = ROWS[name]
    images = {image: IMAGES[image] for image in (IMAGES if name in OF_ALL_LAYERS else FEW_IMAGES)}
    encoded, texts = list(images.values()), list(TEXTS.values())
    (folder / "checkpoint").mkdir()
    source = write(row, folder / "checkpoint", originals)
    expected = expected_vectors(row, source, originals, encoded, texts)

    repository = folder / "repository"
    vision = source.vision and str(source.vision)
    manifest = build_repository(str(source.checkpoint), repository, read_options=ReadOptions(vision=vision))
    assert manifest.family == row.family
    assert manifest.embedding_dimension == row.dimension
    assert manifest.image_size == row.image_size
    assert manifest.context_length == row.context_length

    assert expected[0].shape == (len(images), row.dimension)
    assert expected[1].shape == (len(TEXTS), row.dimension)
    # A model that gives all items the same vector would pass the comparisons below.
    assert smallest_difference(expected[0][:4]) > 100 * ALLOWED
    assert smallest_difference(expected[1][:8]) > 100 * ALLOWED
    files = ServedFiles(repository)
    assert differing(list(images), files.embed_images(encoded), expected[0]) == {}
    assert differing(list(TEXTS), files.embed_texts(texts), expected[1]) == {}

    if name in SERVED:
        with (
            RecordedServer(repository) as server,
            Client(server.grpc_url, timeout=300) as clip,
            pytest.warns(UserWarning, match="their ends were ignored"),
        ):
            served = clip.embed_images(encoded), clip.embed_texts(texts)
        assert differing(list(images), served[0], expected[0]) == {}
        assert differing(list(TEXTS), served[1], expected[1]) == {}


def test_every_code_point_is_tokenized_as_by_cn_clip(repository: Path, originals: Originals) -> None:
    """The tokenizer gives cn_clip's token ids for every code point of Unicode.

    `tests/service/test_reference_tokens.py` compares only the assigned characters, which takes seconds.
    """
    expected = originals.characters("cn_clip", "code_points")
    assert expected.codes.tolist() == [ord(character) for character in every_character()]
    assert differing_characters(repository, expected) == []
