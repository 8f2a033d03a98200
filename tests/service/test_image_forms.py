"""A picture has the same vector in every form in which it may be passed: bytes, path, file or PIL image."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.support.blocking import Blocking
from tests.support.repositories import Built
from tests.support.servers import SharedServers
from tuwen import AsyncClient, Client, ImageInput
from tuwen.failures import ItemError
from tuwen.pixels import ImageLimits, Preprocessor
from tuwen_build.options import BuildOptions
from tuwen_repository.samples import sample

pillow_heif.register_heif_opener()


@pytest.fixture(params=["reference", "display"])
def url(request: pytest.FixtureRequest, servers: SharedServers, built: Built) -> str:
    return servers.on(built(BuildOptions(image_rules=request.param))).grpc_url


@pytest.fixture(params=["sync, server", "sync, client", "async, server", "async, client"])
def clip(request: pytest.FixtureRequest, url: str) -> Iterator[Client]:
    """Yield a synchronous or asynchronous client that preprocesses images on the server or in the client."""
    kind, preprocess = request.param.split(", ")
    made: Any = AsyncClient if kind == "async" else Client
    connected: Any = (
        Blocking(lambda: made(url, preprocess=preprocess)) if kind == "async" else made(url, preprocess=preprocess)
    )
    with connected:
        yield connected


def files() -> list[bytes]:
    """Return encoded pictures with EXIF data, transparency, a palette, CMYK, 16 bits per channel, or HEIC."""
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(sample("cat.jpg")) as photograph:
        small = photograph.resize((90, 60))
    faded = small.convert("RGBA")
    faded.putalpha(Image.linear_gradient("L").resize(small.size))
    sixteen = Image.frombytes("I;16", small.size, (np.asarray(small.convert("L")).astype("<u2") * 200).tobytes())
    pictures: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (small, "JPEG", {"exif": exif}),
        (small, "PNG", {"exif": exif}),
        (small, "TIFF", {"exif": exif}),
        (small.convert("CMYK"), "JPEG", {"exif": exif}),
        (faded, "PNG", {}),
        (small.quantize(60), "PNG", {"transparency": 3}),
        (sixteen, "PNG", {}),
        (faded, "HEIF", {}),
    ]
    encoded = []
    for image, name, options in pictures:
        file = io.BytesIO()
        image.save(file, name, **options)
        encoded.append(file.getvalue())
    return encoded


def test_every_form_of_a_picture_has_the_vector_of_its_file(clip: Client, tmp_path: Path) -> None:
    for number, data in enumerate(files()):
        path = tmp_path / str(number)
        path.write_bytes(data)
        image = Image.open(io.BytesIO(data))
        forms: list[ImageInput] = [data, path, io.BytesIO(data), image, image]
        streamed = [outcome.embedding for outcome in clip.stream_images([*forms[:2], *forms[3:]])]
        vectors = [*clip.embed_images(forms), *streamed]
        for vector in vectors[1:]:
            assert vector is not None
            np.testing.assert_allclose(vector, vectors[0], atol=1e-6)


def test_every_pillow_mode_is_embedded(clip: Client) -> None:
    with Image.open(sample("cat.jpg")) as photograph:
        small = photograph.resize((90, 60))
    rgba = small.convert("RGBA")
    images = [
        small.convert("HSV"),
        rgba.convert("RGBa"),
        rgba.convert("LA").convert("La"),
        small.convert("YCbCr"),
        small.convert("F"),
        small.convert("I"),
        Image.frombytes("I;16B", small.size, bytes(2 * 90 * 60)),
        Image.frombytes("LAB", small.size, small.tobytes()),
    ]
    assert all(outcome.ok for outcome in clip.try_embed_images(images))


def test_client_and_server_refuse_an_image_for_the_same_reason(clip: Client) -> None:
    preprocessor = Preprocessor(**clip.model_card().pixel_rules(), limits=ImageLimits())
    bad = [b"no image", sample("cat.jpg").read_bytes()[:5_000], b"\xff\xd8" + b"\xff\xe0\0\2" * 20_001]
    expected = []
    for index, data in enumerate(bad):
        with pytest.raises(ItemError) as caught:
            preprocessor.pixel_values(data)
        expected.append(caught.value.at(index))
    assert [outcome.error for outcome in clip.try_embed_images(bad)] == expected
