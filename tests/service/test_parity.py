"""A running server returns the vectors of the original code over gRPC.

`test_families.py` compares the vectors that the built files give without a server. This module also covers the parts
that only a server has: the wire format, the processes of the Python models, and the ensembles.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc

from tests.support.artefacts import Artefacts
from tests.support.families import ALLOWED, build, differing, expected_vectors
from tests.support.originals import Originals, Vectors
from tests.support.rows import kept_source
from tests.support.served_files import ServedFiles
from tests.support.servers import RecordedServer
from tests.support.small_rows import SMALL_ROWS
from tuwen import Client
from tuwen_build.options import BuildOptions
from tuwen_build.verification.verify import bound
from tuwen_repository.samples import awkward_images, awkward_texts

IMAGES = awkward_images()
TEXTS = {entry.name: entry.text for entry in awkward_texts()}
OPENAI = SMALL_ROWS["openai/clip-vit-base-patch32"]
TAIYI = SMALL_ROWS["Taiyi-CLIP-Roberta-102M-Chinese"]


def embedded_by(server: RecordedServer) -> Vectors:
    """Return the vectors of all images and of all texts, which a client gets from the server."""
    with Client(server.grpc_url, timeout=300) as clip, pytest.warns(UserWarning, match="are longer than"):
        return clip.embed_images(list(IMAGES.values())), clip.embed_texts(list(TEXTS.values()))


def test_chinese_clip_is_served_with_the_vectors_of_cn_clip(
    server: RecordedServer, checkpoint: Path, originals: Originals
) -> None:
    expected = originals.embeddings("cn_clip", checkpoint, list(IMAGES.values()), list(TEXTS.values()))
    images, texts = embedded_by(server)
    assert differing(list(IMAGES), images, expected[0]) == {}
    assert differing(list(TEXTS), texts, expected[1]) == {}


def test_openai_clip_is_served_with_the_vectors_of_open_clip(artefacts: Artefacts, originals: Originals) -> None:
    source = kept_source(OPENAI, artefacts, originals)
    expected = expected_vectors(OPENAI, source, originals, list(IMAGES.values()), list(TEXTS.values()))
    with RecordedServer(build(source, artefacts)) as server:
        images, texts = embedded_by(server)
    assert differing(list(IMAGES), images, expected[0]) == {}
    assert differing(list(TEXTS), texts, expected[1]) == {}


def test_taiyi_is_served_in_int8_within_its_bound(artefacts: Artefacts, originals: Originals) -> None:
    """The vectors of a served int8 build of Taiyi stay within the bound for int8.

    The test covers Taiyi's tokenizer and image rules, and a precision other than float32, with a single server.
    """
    source = kept_source(TAIYI, artefacts, originals)
    expected = expected_vectors(TAIYI, source, originals, list(IMAGES.values()), list(TEXTS.values()))
    repository = build(source, artefacts, BuildOptions(precision="int8"))
    with RecordedServer(repository) as server:
        with Client(server.grpc_url) as clip:
            card = clip.model_card()
        assert (card.family, card.precision) == ("taiyi-clip", "int8")
        images, texts = embedded_by(server)
    allowed = bound("int8", depth=2).distance
    assert np.linalg.norm(images - expected[0], axis=1).max() < allowed
    assert np.linalg.norm(texts - expected[1], axis=1).max() < allowed
    files = ServedFiles(repository)
    # Another order of summation may change the last bit of an activation, and then its rounded int8 value.
    assert differing(list(IMAGES), images, files.embed_images(list(IMAGES.values())), allowed=1e-3) == {}
    assert differing(list(TEXTS), texts, files.embed_texts(list(TEXTS.values())), allowed=1e-3) == {}


@pytest.mark.parametrize("kind", ["image", "text"])
def test_a_plain_tritonclient_gets_the_same_vectors(
    kind: str, triton: tritonclient.grpc.InferenceServerClient, repository: Path
) -> None:
    files = ServedFiles(repository)
    if kind == "image":
        items, expected = list(IMAGES.values())[:5], files.embed_images(list(IMAGES.values())[:5])
    else:
        items = [text.encode() for text in TEXTS.values()][:5]
        expected = files.embed_texts(list(TEXTS.values())[:5])
    tensor = tritonclient.grpc.InferInput(kind, [5, 1], "BYTES")
    tensor.set_data_from_numpy(np.array(items, dtype=object).reshape(5, 1))
    embedding = triton.infer(f"{kind}_embedding", [tensor], client_timeout=60).as_numpy("embedding")
    assert np.abs(embedding - expected).max() <= ALLOWED
