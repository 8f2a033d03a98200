"""HEIC images, which Pillow cannot read. pillow-heif decodes them. Without pillow-heif, a refusal names the format."""

from __future__ import annotations

import functools
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image

from tuwen._images import ImageInput, encoded_bytes, pixel_values
from tuwen._structure import is_heic
from tuwen.failures import ItemError
from tuwen.pixels import ImageLimits, Preprocessor, open_image
from tuwen_files.image_files import HEAD_BYTES, is_image
from tuwen_repository.samples import sample

pillow_heif.register_heif_opener()  # for `Image.save`
SIDE = 32
PREPROCESSORS = [
    Preprocessor(SIDE, resize, rules) for rules in ("reference", "display") for resize in ("squash", "crop")
]
WITHOUT_LOSS: dict[str, Any] = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}


@functools.cache
def photograph(mode: str = "RGB") -> Image.Image:
    with Image.open(sample("cat.jpg")) as image:
        small = image.convert("RGB").resize((120, 90))
    if mode in ("RGBA", "LA"):
        small.putalpha(Image.linear_gradient("L").resize(small.size))
    return small.convert(mode)


def heic(*images: Image.Image, **options: Any) -> bytes:
    """Encode images as the frames of one HEIC file, the first as the primary image."""
    file, encoded = pillow_heif.HeifFile(), io.BytesIO()
    for image in images:
        file.add_from_pillow(image)
    file.save(encoded, **options)
    return encoded.getvalue()


def decoded(data: bytes) -> Image.Image:
    """Return the pixels that pillow-heif itself decodes from a file."""
    return pillow_heif.read_heif(data).to_pillow()


def squared(image: Image.Image, preprocessor: Preprocessor) -> NDArray[np.uint8]:
    return np.asarray(preprocessor.square(image)).transpose(2, 0, 1)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_a_file_has_the_pixels_that_pillow_heif_decodes(mode: str, tmp_path: Path) -> None:
    data = heic(photograph(mode))
    path = tmp_path / "picture.heic"
    path.write_bytes(data)
    for preprocessor in PREPROCESSORS:
        expected = squared(decoded(data), preprocessor)
        np.testing.assert_array_equal(preprocessor.pixel_values(data), expected)
        forms: list[ImageInput] = [path, str(path), data, io.BytesIO(data), open_image(data), decoded(data)]
        for form in forms:
            np.testing.assert_array_equal(preprocessor.pixel_values(encoded_bytes(form, preprocessor)), expected)
            if isinstance(form, io.BytesIO):
                form.seek(0)
            own = np.frombuffer(pixel_values(form, preprocessor), np.uint8).reshape(expected.shape)
            np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_file_is_turned_once(orientation: int) -> None:
    """A HEIC file with a rotation is rotated once.

    The rotation in the file turns the pixels. An orientation in the EXIF data must not turn them again.
    """
    exif = Image.Exif()
    exif[0x0112] = orientation
    marked = photograph().copy()
    marked.info["exif"] = exif.tobytes()
    turned, png = io.BytesIO(), io.BytesIO()
    marked.save(turned, "HEIF", **WITHOUT_LOSS)  # writes a rotation beside the EXIF data
    photograph().save(png, "PNG", exif=exif)
    data = turned.getvalue()
    assert (open_image(data).size == photograph().size) == (orientation <= 4)
    for preprocessor in PREPROCESSORS:
        displayed = Preprocessor(SIDE, preprocessor.resize, "display").pixel_values(png.getvalue())
        assert np.abs(preprocessor.pixel_values(data).astype(int) - displayed).max() <= 2  # HEVC rounds the colours
        np.testing.assert_array_equal(preprocessor.pixel_values(data), squared(decoded(data), preprocessor))


def test_an_orientation_in_the_exif_data_alone_turns_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    marked, plain = io.BytesIO(), io.BytesIO()
    photograph().save(marked, "HEIF", exif=exif)  # writes no rotation
    photograph().save(plain, "HEIF")
    for preprocessor in PREPROCESSORS:
        np.testing.assert_array_equal(
            preprocessor.pixel_values(marked.getvalue()), preprocessor.pixel_values(plain.getvalue())
        )


def test_scaled_jpeg_decoding_does_not_take_an_embedded_thumbnail() -> None:
    data = heic(photograph().resize((480, 360)), thumbnails=[128])
    assert decoded(data).info["thumbnails"]
    scaled = Preprocessor(SIDE, jpeg_decoding="scaled")
    np.testing.assert_array_equal(scaled.pixel_values(data), Preprocessor(SIDE).pixel_values(data))


def refusal(data: bytes, **limits: int) -> ItemError:
    with pytest.raises(ItemError) as caught:
        Preprocessor(SIDE, limits=ImageLimits(**limits)).pixel_values(data)
    return caught.value


def test_limits_and_damage_are_found_as_in_other_formats() -> None:
    data = heic(photograph(), photograph().rotate(90), photograph("L"))
    assert refusal(data, max_pixels=1000).reason == "too_many_pixels"
    assert refusal(data, max_frames=2).reason == "too_many_frames"
    assert refusal(data[:200]).reason == "corrupt"
    np.testing.assert_array_equal(PREPROCESSORS[0].pixel_values(data), squared(decoded(data), PREPROCESSORS[0]))
    alone = heic(photograph())
    assert refusal(alone[: len(alone) // 2]).reason == "corrupt"


def test_without_pillow_heif_the_refusal_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(photograph())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    error = refusal(data)
    assert error.reason == "unsupported_format"
    assert "HEIC needs pillow-heif on the machine that decodes images" in str(error)
    assert "pip install 'tuwen[heif]'" in str(error)
    with pytest.raises(ItemError, match=r"tuwen\[heif\]"):
        pixel_values(data, PREPROCESSORS[0])


def test_applications_keep_their_own_registry_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    assert open_image(heic(photograph())).format == "HEIF"
    assert "HEIF" not in Image.OPEN


def brands(major: bytes, *compatible: bytes) -> bytes:
    content = b"ftyp" + major + bytes(4) + b"".join(compatible)
    return (len(content) + 4).to_bytes(4, "big") + content + bytes(100)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (brands(b"heic", b"mif1", b"heic"), True),
        (brands(b"heix"), True),
        (brands(b"mif1", b"mif1", b"heic"), True),  # as Nokia's encoder writes it
        (brands(b"mif1", b"mif1", b"avif"), False),
        (brands(b"avif", b"mif1", b"heic"), False),
        (brands(b"isom", b"mp41"), False),
        (b"\xff\xff\xff\xffftypmif1" + bytes(5000), False),
        (b"\0\0\0\0ftyp", False),
        (b"", False),
    ],
)
def test_heic_is_known_by_its_brands(data: bytes, expected: bool) -> None:
    assert is_heic(data) == expected


def test_files_are_pictures_by_suffix_or_by_content() -> None:
    head = heic(photograph())[:HEAD_BYTES]
    assert is_image("IMG_0001", lambda: head)
    assert not is_image("movie", lambda: brands(b"isom", b"mp41")[:HEAD_BYTES])
    for name in ("IMG_0001.HEIC", "a.heif", "b.hif"):
        assert is_image(name, lambda: b"")
