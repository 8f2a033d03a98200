"""A picture gives the same pixels in every form: as a path, bytes, a file object, a PIL image or an array.

The pixels are also the same on the server and in a client that preprocesses images. For the server, the tests call
`Preprocessor.pixel_values`, as the model does, with the bytes that the SDK sends.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tuwen._images import ImageInput, encoded_bytes, pixel_values, snapshot
from tuwen.failures import ItemError
from tuwen.pixels import ImageLimits, Preprocessor
from tuwen_build.checkpoints import Preprocessing
from tuwen_build.verification.reference import reference_pixels

SIDE = 24
SIZE = (61, 40)
ORIENTATION = 0x0112
PREPROCESSORS = [
    Preprocessor(SIDE, resize, rules) for rules in ("reference", "display") for resize in ("squash", "crop")
]
# All modes of Pillow 10 to 13.
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F")
MODES += ("I;16", "I;16B", "I;16L", "I;16N")
FORMATS: Mapping[str, tuple[str, ...]] = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "I", "F", "I;16", "I;16B"),
    "AVIF": ("RGB", "RGBA"),
    "MPO": ("L", "RGB", "CMYK"),
    "HEIF": ("L", "LA", "RGB", "RGBA"),
}
Image.init()
pillow_heif.register_heif_opener()
FILES = [(name, mode) for name, modes in FORMATS.items() for mode in modes if name in Image.SAVE]

# Pillow handles these cases correctly, in spite of its warnings.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Palette images with Transparency"),
    pytest.mark.filterwarnings("ignore:Corrupt EXIF data"),
]


@functools.cache
def picture(mode: str) -> Image.Image:
    """Return a picture in a mode of Pillow. Its coarse noise looks different in every orientation and colour space."""
    coarse = np.random.default_rng(3).integers(0, 256, (8, 13, 4), dtype=np.uint8)
    rgba = Image.fromarray(coarse).resize(SIZE, Image.Resampling.BILINEAR)
    if mode in ("I", "F") or mode.startswith("I;16"):
        values = np.asarray(rgba.convert("L")).astype({"I": "<i4", "F": "<f4", "I;16B": ">u2"}.get(mode, "<u2"))
        return Image.frombytes(mode, SIZE, (values * 200).tobytes())
    if mode in ("LA", "La", "PA"):
        return rgba.convert("LA") if mode == "LA" else rgba.convert("LA").convert(mode)
    if mode in ("LAB", "RGBX"):
        return Image.frombytes(mode, SIZE, rgba.convert({"LAB": "RGB", "RGBX": "RGBA"}[mode]).tobytes())
    if mode == "P":
        return rgba.convert("RGB").quantize(40)
    return rgba if mode == "RGBA" else rgba.convert("RGBA" if mode == "RGBa" else "RGB").convert(mode)


def encode(image: Image.Image, name: str, **options: Any) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, name, **options)
    return encoded.getvalue()


def turned(orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def loaded(data: bytes) -> Image.Image:
    image = opened(data)
    image.load()
    return image


def served(image: ImageInput, preprocessor: Preprocessor) -> NDArray[np.uint8]:
    """Return the pixel values of an image that the SDK encodes and the server preprocesses."""
    return preprocessor.pixel_values(encoded_bytes(image, preprocessor))


def own(image: ImageInput, preprocessor: Preprocessor) -> NDArray[np.uint8]:
    """Return the pixel values that a client with ``preprocess="client"`` computes for an image."""
    return np.frombuffer(pixel_values(image, preprocessor), dtype=np.uint8).reshape(3, SIDE, SIDE)


def check(image: ImageInput, expected: NDArray[np.uint8], preprocessor: Preprocessor) -> None:
    np.testing.assert_array_equal(served(image, preprocessor), expected)
    if isinstance(image, io.BytesIO):
        image.seek(0)
    np.testing.assert_array_equal(own(image, preprocessor), expected)


def array_of(data: bytes) -> NDArray[np.uint8] | None:
    """Return the pixels of a file as an array; None if the file has a mode or metadata that an array cannot hold."""
    image = loaded(data)
    beyond_pixels = image.mode not in ("L", "RGB", "RGBA") or "transparency" in image.info or "exif" in image.info
    return None if beyond_pixels else np.asarray(image)


def check_forms(data: bytes, folder: Path) -> None:
    """Check that every form of an encoded picture gives the pixel values of its file, under all rules."""
    path = folder / "picture"
    path.write_bytes(data)
    for preprocessor in PREPROCESSORS:
        expected = preprocessor.pixel_values(data)
        if preprocessor.image_rules == "reference":
            rules = Preprocessing(SIDE, preprocessor.resize, (0, 0, 0), (1, 1, 1))
            np.testing.assert_array_equal(expected, reference_pixels(data, rules))
        forms: list[ImageInput] = [path, str(path), data, bytearray(data), io.BytesIO(data), opened(data), loaded(data)]
        for form in forms:
            check(form, expected, preprocessor)
        if (pixels := array_of(data)) is not None:
            check(pixels, expected, preprocessor)


@pytest.mark.parametrize("orientation", [None, 6, 2])
@pytest.mark.parametrize(("name", "mode"), FILES)
def test_every_form_of_a_file_gives_the_same_pixels(
    name: str, mode: str, orientation: int | None, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"lossless": True} if name == "WEBP" else {}
    if orientation and name in ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "AVIF", "HEIF"):
        options["exif"] = turned(orientation)
    check_forms(encode(picture(mode), name, **options), tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pil_image_is_turned_as_its_file(orientation: int, tmp_path: Path) -> None:
    data = encode(picture("RGB"), "PNG", exif=turned(orientation))
    check_forms(data, tmp_path)
    display = PREPROCESSORS[2]
    assert display.image_rules == "display"
    plain = display.pixel_values(encode(picture("RGB"), "PNG"))
    assert np.array_equal(served(opened(data), display), plain) == (orientation == 1)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_an_array_gives_the_pixels_of_the_file(mode: str) -> None:
    data = encode(picture(mode), "PNG")
    for preprocessor in PREPROCESSORS:
        check(np.asarray(picture(mode)), preprocessor.pixel_values(data), preprocessor)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_resized_before_it_is_converted_to_rgb(mode: str) -> None:
    image = picture(mode)
    before = image.tobytes()
    resized = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    expected = np.asarray((resized.convert("LA") if mode == "La" else resized).convert("RGB")).transpose(2, 0, 1)
    check(image, expected, PREPROCESSORS[0])
    for preprocessor in PREPROCESSORS:
        np.testing.assert_array_equal(own(image, preprocessor), served(image, preprocessor))
    assert image.tobytes() == before


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La", "PA"])
def test_display_rules_put_every_mode_with_alpha_on_white(mode: str) -> None:
    image = Image.new("RGBA", SIZE, (10, 20, 30, 0))
    if mode == "PA":
        image = Image.frombytes("PA", SIZE, bytes(2 * image.width * image.height))
    elif mode != "RGBA":
        image = image.convert("LA" if mode in ("LA", "La") else "RGBA").convert(mode)
    display = PREPROCESSORS[2]
    check(image, np.full((3, SIDE, SIDE), 255, dtype=np.uint8), display)


@pytest.mark.parametrize(
    ("name", "mode", "transparency"),
    [
        ("PNG", "P", 3),
        ("PNG", "P", bytes(range(0, 200, 5))),
        ("GIF", "P", 3),
        ("PNG", "L", 90),
        ("PNG", "1", 255),
        ("PNG", "RGB", (10, 20, 30)),
        ("PNG", "I;16", 200),
    ],
)
def test_transparency_beside_the_pixels_is_kept(name: str, mode: str, transparency: Any, tmp_path: Path) -> None:
    image = picture(mode).copy()
    if mode == "RGB":
        image.paste((10, 20, 30), (0, 0, 30, 30))
    check_forms(encode(image, name, transparency=transparency), tmp_path)


def test_a_palette_with_alpha_is_kept() -> None:
    image = picture("RGBA").quantize(20)
    assert image.palette is not None
    assert image.palette.mode == "RGBA"
    for preprocessor in PREPROCESSORS:
        check(image, preprocessor.pixel_values(encode(image, "PNG")), preprocessor)


def test_pixels_outside_the_palette_are_kept() -> None:
    """Pixels whose value is beyond the palette keep their value when the SDK encodes the image.

    As a PNG with three colours, the image would have two bits for each pixel, and the value 7 would become 3.
    """
    image = Image.frombytes("P", (16, 16), bytes(range(256)))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    expected = np.asarray(image.resize((SIDE, SIDE)).convert("RGB")).transpose(2, 0, 1)
    check(image, expected, PREPROCESSORS[0])


@pytest.mark.parametrize("name", ["PNG", "JPEG", "TIFF"])
def test_a_colour_profile_changes_nothing(name: str, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    check_forms(encode(picture("RGB"), name, icc_profile=profile), tmp_path)


def test_a_pil_image_with_a_huge_colour_profile_is_accepted() -> None:
    """A PIL image with a colour profile of more than a mebibyte is accepted, and the profile is left out.

    Profiles of printers can be that large, and Pillow refuses to read a PNG with such a profile.
    """
    image = picture("RGB").copy()
    image.info["icc_profile"] = bytes(2 << 20)
    check(image, PREPROCESSORS[0].pixel_values(encode(picture("RGB"), "PNG")), PREPROCESSORS[0])


def test_a_jpeg_in_a_tiff_is_not_compressed_again(tmp_path: Path) -> None:
    check_forms(encode(picture("CMYK"), "TIFF", compression="jpeg"), tmp_path)


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "TIFF"])
def test_a_file_means_its_first_frame_and_a_pil_image_its_current_frame(name: str, tmp_path: Path) -> None:
    frames = [picture("RGB").rotate(angle) for angle in (0, 90, 180)]
    options: dict[str, Any] = {"lossless": True} if name == "WEBP" else {}
    data = encode(frames[0], name, save_all=True, append_images=frames[1:], **options)
    check_forms(data, tmp_path)
    image = opened(data)
    image.seek(2)
    shown = PREPROCESSORS[0].square(image.copy())
    check(image, np.asarray(shown).transpose(2, 0, 1), PREPROCESSORS[0])
    assert not np.array_equal(served(image, PREPROCESSORS[0]), PREPROCESSORS[0].pixel_values(data))


BROKEN_EXIF = {
    "no TIFF header": b"Exif\0\0nothing that could be parsed",
    "an offset beyond the end": b"Exif\0\0II*\0" + struct.pack("<I", 9_000),
    "entries that are missing": b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 40, 0x0112, 3, 1),
    "an orientation in letters": b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x0112, 2, 4, b"six\0", 0),
    "an orientation of nine": b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 9, 0, 0),
    "nothing": b"",
}


@pytest.mark.parametrize("exif", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_an_image_with_unreadable_exif_is_not_turned(name: str, exif: bytes, tmp_path: Path) -> None:
    options: dict[str, Any] = {"lossless": True} if name == "WEBP" else {}
    data = encode(picture("RGB"), name, exif=exif, **options)
    check_forms(data, tmp_path)
    np.testing.assert_array_equal(
        PREPROCESSORS[2].pixel_values(data), PREPROCESSORS[2].pixel_values(encode(picture("RGB"), name, **options))
    )


def test_exif_that_pillow_cannot_write_still_turns_the_image(tmp_path: Path) -> None:
    """An image is turned as its EXIF says, even if the EXIF has a tag of an unknown type.

    When Pillow turns an image, it writes the EXIF anew, and fails at a tag of an unknown type.
    """
    entries = struct.pack("<HHIHH", ORIENTATION, 3, 1, 6, 0) + struct.pack("<HHIf", 0x9286, 11, 1, 0.5)
    broken = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + struct.pack("<I", 0)
    data = encode(picture("RGB"), "PNG", exif=broken)
    check_forms(data, tmp_path)
    upright = encode(picture("RGB").transpose(Image.Transpose.ROTATE_270), "PNG")
    np.testing.assert_array_equal(PREPROCESSORS[2].pixel_values(data), PREPROCESSORS[2].pixel_values(upright))


@pytest.mark.parametrize("image", [picture("RGB"), np.asarray(picture("RGB")), picture("CMYK")])
def test_pixels_whose_file_would_be_too_large_are_sent_resized(image: Any) -> None:
    small = Preprocessor(SIDE, limits=ImageLimits(max_bytes=3_000))
    assert len(encoded_bytes(image, PREPROCESSORS[0])) > 3_000
    assert len(encoded_bytes(image, small)) <= 3_000
    np.testing.assert_array_equal(served(image, small), served(image, PREPROCESSORS[0]))


def test_a_pil_image_of_too_many_pixels_is_refused_with_a_reason() -> None:
    narrow = Preprocessor(SIDE, limits=ImageLimits(max_pixels=100))
    with pytest.raises(ItemError, match="61x40 pixels, the limit is 100") as caught:
        encoded_bytes(picture("HSV"), narrow)
    assert caught.value.reason == "too_many_pixels"


@pytest.mark.parametrize("function", [served, own])
def test_a_lazily_opened_image_may_be_used_by_many_threads(function: Any) -> None:
    data = encode(picture("RGB").resize((900, 700)), "JPEG")
    expected = PREPROCESSORS[0].pixel_values(data)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            image = opened(data)
            found = list(pool.map(lambda _, image=image: function(image, PREPROCESSORS[0]), range(8)))  # type: ignore[misc]
            for values in found:
                np.testing.assert_array_equal(values, expected)


def test_a_broken_pil_image_is_unreadable() -> None:
    data = encode(picture("RGB").resize((400, 400)), "PNG")
    for function in (served, own):
        with pytest.raises(ItemError, match="cannot load the PIL image: "):
            function(opened(data[: len(data) // 2]), PREPROCESSORS[0])


def test_a_snapshot_keeps_the_current_frame_of_an_animation() -> None:
    frames = [Image.new("L", (4, 4), shade) for shade in (10, 20, 30)]
    animation = opened(encode(frames[0], "PNG", save_all=True, append_images=frames[1:]))

    def shown() -> Iterator[Image.Image]:
        for number in range(3):
            animation.seek(number)
            yield animation

    assert [copy.getpixel((0, 0)) for copy in map(snapshot, shown())] == [10, 20, 30]
