"""Every checkpoint of the family, built and served, equals its own reference from bytes and strings to vectors.

Published dimensions where a test machine has the time and memory, else full width and two layers.
"""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.checkpoints import (
    TextSizes,
    VisionSizes,
    run_reference,
    write_chinese_clip,
    write_from_cn_clip,
    write_openai_clip,
    write_taiyi,
)
from tests.support.servers import RecordedServer
from tests.support.taiyi import embed_with_model_card
from tuwen import Client
from tuwen_build.encoders import Precision
from tuwen_build.repository import BuildOptions, ReadOptions, build_repository
from tuwen_build.samples import PHOTOGRAPHS, awkward_images, awkward_texts
from tuwen_build.server import ServerOptions
from tuwen_build.verify import bound

ALLOWED = 1e-5
TEXTS = {entry.name: entry.text for entry in awkward_texts()}

# What every mode and shape comes to is seen at full size; at reduced depth these show that nothing else went wrong.
TEXTS_OF_FEW_TOKENS = [index for index, name in enumerate(TEXTS) if name in ("short", "chinese", "empty")]
FEW_IMAGES = (*PHOTOGRAPHS, "horse.png", "palette.png", "exif_rotated.jpg", "8000x20.jpg", "1x1.png", "one_bit.png")
Vectors = tuple[NDArray[np.float32], NDArray[np.float32]]

B16 = VisionSizes(768, 12, 12, 16)
B16_SHORT = VisionSizes(768, 2, 12, 16)
L14 = VisionSizes(1024, 2, 16, 14)
L14_336 = VisionSizes(1024, 2, 16, 14, 336)
H14 = VisionSizes(1280, 2, 16, 14)
BASE, BASE_SHORT = TextSizes(768, 12, 12), TextSizes(768, 2, 12)
LARGE = TextSizes(1024, 2, 16)
CN_BASE, CN_LARGE = "RoBERTa-wwm-ext-base-chinese", "RoBERTa-wwm-ext-large-chinese"


@dataclass(frozen=True)
class Case:
    """A row of the README's table.

    Attributes:
        write: makes the checkpoint in an empty folder; gives what ``tuwen build`` takes.
        reference: the script in ``tests/reference``, or the recipe of Taiyi's model cards.
        vision: makes the checkpoint that goes to ``--vision``.
    """

    family: str
    write: Callable[[Path], Path]
    reference: Literal["cn_clip_reference.py", "open_clip_reference.py", "taiyi"]
    dimension: int
    image_size: int = 224
    context_length: int = 52
    full_size: bool = False
    vision: Callable[[Path], Path] | None = None


def chinese(vision: VisionSizes, text: TextSizes, dimension: int) -> Case:
    return Case(
        "chinese-clip",
        lambda folder: write_chinese_clip(folder / "checkpoint", vision, text, dimension),
        "cn_clip_reference.py",
        dimension,
        vision.image,
    )


def native(
    vision: str, text: str, dimension: int, *, layers: str = "2", image_size: int = 224, modelscope: bool = False
) -> Case:
    layout, name = ("modelscope", "checkpoint") if modelscope else ("native", f"clip_cn_{vision.lower()}.pt")
    return Case(
        "chinese-clip",
        lambda folder: write_from_cn_clip(folder / name, layout, vision, text, layers),
        "cn_clip_reference.py",
        dimension,
        image_size,
        full_size=layers == "all",
    )


def openai(vision: VisionSizes, text: TextSizes, dimension: int) -> Case:
    return Case(
        "openai-clip",
        lambda folder: write_openai_clip(folder / "checkpoint", vision, text, dimension),
        "open_clip_reference.py",
        dimension,
        vision.image,
        77,
        full_size=vision.layers == 12,
    )


def taiyi(text: TextSizes, vision: VisionSizes, dimension: int, *, head: bool) -> Case:
    return Case(
        "taiyi-clip",
        lambda folder: write_taiyi(folder / "checkpoint", text, dimension if head else None),
        "taiyi",
        dimension,
        context_length=77,
        full_size=text.layers == 12,
        vision=lambda folder: write_openai_clip(folder / "clip", vision, TextSizes(dimension, 2, 8), dimension),
    )


CASES = {
    "chinese-clip-vit-large-patch14": chinese(L14, BASE_SHORT, 768),
    "chinese-clip-vit-large-patch14-336px": chinese(L14_336, BASE_SHORT, 768),
    "chinese-clip-vit-huge-patch14": chinese(H14, LARGE, 1024),
    "clip_cn_rn50.pt": native("RN50", "RBT3-chinese", 1024, layers="all"),
    "clip_cn_vit-b-16.pt": native("ViT-B-16", CN_BASE, 512, layers="all"),
    "clip_cn_vit-l-14.pt": native("ViT-L-14", CN_BASE, 768),
    "clip_cn_vit-l-14-336.pt": native("ViT-L-14-336", CN_BASE, 768, image_size=336),
    "clip_cn_vit-h-14.pt": native("ViT-H-14", CN_LARGE, 1024),
    "damo/multi-modal_clip-vit-base-patch16_zh": native("ViT-B-16", CN_BASE, 512, modelscope=True),
    "damo/multi-modal_clip-vit-large-patch14_zh": native("ViT-L-14", CN_BASE, 768, modelscope=True),
    "damo/multi-modal_clip-vit-large-patch14_336_zh": native(
        "ViT-L-14-336", CN_BASE, 768, image_size=336, modelscope=True
    ),
    "damo/multi-modal_clip-vit-huge-patch14_zh": native("ViT-H-14", CN_LARGE, 1024, modelscope=True),
    "openai/clip-vit-base-patch32": openai(VisionSizes(768, 12, 12, 32), TextSizes(512, 12, 8), 512),
    "openai/clip-vit-base-patch16": openai(B16_SHORT, TextSizes(512, 2, 8), 512),
    "openai/clip-vit-large-patch14": openai(L14, TextSizes(768, 2, 12), 768),
    "openai/clip-vit-large-patch14-336": openai(L14_336, TextSizes(768, 2, 12), 768),
    "Taiyi-CLIP-RoBERTa-102M-ViT-L-Chinese": taiyi(BASE, L14, 768, head=False),
    "Taiyi-CLIP-Roberta-102M-Chinese": taiyi(BASE, VisionSizes(768, 12, 12, 32), 512, head=True),
    "Taiyi-CLIP-Roberta-large-326M-Chinese": taiyi(LARGE, L14, 768, head=True),
}


@dataclass(frozen=True)
class Outcome:
    case: Case
    images: list[str]
    served: Vectors
    expected: Vectors


@pytest.fixture(scope="module", params=CASES)
def outcome(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    reference_embeddings: Callable[..., Vectors],
) -> Iterator[Outcome]:
    """A checkpoint is written, built, served and embedded with, by us and by its reference."""
    case = CASES[request.param]
    folder = tmp_path_factory.mktemp("family")
    checkpoint = case.write(folder)
    vision = case.vision and case.vision(folder)
    images = list(awkward_images()) if case.full_size else list(FEW_IMAGES)
    encoded, texts = [awkward_images()[name] for name in images], list(TEXTS.values())

    with ThreadPoolExecutor(1) as beside:  # the reference computes in a process of its own
        if case.reference == "taiyi":
            assert vision is not None
            expected = beside.submit(reference_embeddings, "open_clip_reference.py", vision, encoded, ["unused"])
        else:
            expected = beside.submit(reference_embeddings, case.reference, checkpoint, encoded, texts)
        manifest = build_repository(
            str(checkpoint), folder / "repository", read_options=ReadOptions(vision=vision and str(vision))
        )
        assert (manifest.family, manifest.embedding_dimension, manifest.image_size, manifest.context_length) == (
            case.family,
            case.dimension,
            case.image_size,
            case.context_length,
        )
        with (
            RecordedServer(folder / "repository", ServerOptions.on_free_ports()) as server,
            Client(server.grpc_url, timeout=300) as clip,
            pytest.warns(UserWarning, match="were cut"),
        ):
            served = clip.embed_images(encoded), clip.embed_texts(texts)
    pictured, worded = expected.result()
    if case.reference == "taiyi":
        worded = embed_with_model_card(checkpoint, texts)
    yield Outcome(case, images, served, (pictured, worded))
    shutil.rmtree(folder)  # gigabytes, over all cases


@pytest.mark.skipif(unicodedata.unidata_version != "14.0.0", reason="another Unicode than that of `tokenizers`")
def test_every_character_of_unicode_14_is_tokenized_as_by_open_clip(tmp_path: Path) -> None:
    checkpoint = write_openai_clip(tmp_path / "checkpoint", VisionSizes(96, 1, 4, 32, 64), TextSizes(96, 1, 4), 64)
    build_repository(str(checkpoint), tmp_path / "repository")
    report = json.loads(run_reference("open_clip_reference.py", "characters", str(tmp_path / "repository")))
    assert report["compared"] > 140_000
    assert report["different"] == []


def test_unmasked_taiyi_attends_to_its_padding_as_the_cards_do(tmp_path: Path) -> None:
    """The cards pass no mask, so an embedding depends on the padding; served, every text is padded to 77."""
    vision = write_openai_clip(tmp_path / "clip", VisionSizes(96, 1, 4, 32, 64), TextSizes(96, 1, 4), 96)
    taiyi_folder = write_taiyi(tmp_path / "taiyi", TextSizes(96, 3, 4))
    build_repository(
        str(taiyi_folder),
        tmp_path / "repository",
        BuildOptions(text_rules="unmasked"),
        read_options=ReadOptions(vision=str(vision)),
    )
    texts = list(TEXTS.values())
    with (
        RecordedServer(tmp_path / "repository", ServerOptions.on_free_ports()) as server,
        Client(server.grpc_url, timeout=300) as clip,
        pytest.warns(UserWarning, match="were cut"),
    ):
        served = clip.embed_texts(texts)
    padded = embed_with_model_card(taiyi_folder, texts, padded=True)
    assert differing(list(TEXTS), served, padded) == {}
    alone = embed_with_model_card(taiyi_folder, texts)
    assert (served * alone).sum(axis=1)[TEXTS_OF_FEW_TOKENS].max() < 0.99


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_every_precision_is_served(checkpoint: Path, tmp_path: Path, precision: Precision, client: Client) -> None:
    build_repository(str(checkpoint), tmp_path / "repository", BuildOptions(precision=precision))
    photographs, texts = [awkward_images()[name] for name in PHOTOGRAPHS], ["一只猫", "a dog", "火箭发射"]
    with (
        RecordedServer(tmp_path / "repository", ServerOptions.on_free_ports()) as server,
        Client(server.grpc_url, timeout=300) as clip,
    ):
        assert clip.model_card().precision == precision
        pairs = (
            (clip.embed_images(photographs), client.embed_images(photographs)),
            (clip.embed_texts(texts), client.embed_texts(texts)),
        )
    for served, exact in pairs:
        distances = np.linalg.norm(served - exact, axis=1)
        assert (distances > 1e-5).all()  # it is another precision
        assert (distances < bound(precision, depth=3).distance).all()


def differing(names: list[str], served: NDArray[np.float32], expected: NDArray[np.float32]) -> dict[str, float]:
    """The items that are further from the reference than allowed, and by how much."""
    differences = np.abs(served - expected).max(axis=1).tolist()
    return {name: value for name, value in zip(names, differences, strict=True) if not value <= ALLOWED}


def test_images_equal_the_reference(outcome: Outcome) -> None:
    assert outcome.served[0].shape == (len(outcome.images), outcome.case.dimension)
    assert differing(outcome.images, outcome.served[0], outcome.expected[0]) == {}


def test_texts_equal_the_reference(outcome: Outcome) -> None:
    assert outcome.served[1].shape == (len(TEXTS), outcome.case.dimension)
    assert differing(list(TEXTS), outcome.served[1], outcome.expected[1]) == {}


def test_the_vectors_tell_the_items_apart(outcome: Outcome) -> None:
    """A model that answered everything alike would pass every comparison above."""
    for vectors in (outcome.expected[0][:4], outcome.expected[1][:8]):
        differences = np.abs(vectors[:, None] - vectors[None]).max(axis=-1)
        assert differences[~np.eye(len(vectors), dtype=bool)].min() > 100 * ALLOWED
