"""The image preprocessing core: equal to the reference, and shut to what it must not decode."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.images import huge_png
from tuwen_build.samples import awkward_images, sample

sys.path.insert(0, str(Path(__file__).parents[2] / "model_repository" / "image_preprocessing" / "1"))
from pixels import ImageError, ImageLimits, Preprocessor


def encode(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, image_format, **options)
    return encoded.getvalue()


def reason(data: bytes, **limits: int) -> str:
    with pytest.raises(ImageError) as caught:
        Preprocessor(32, limits=ImageLimits(**limits)).pixel_values(data)
    assert str(caught.value).startswith(caught.value.reason + ": ")
    return caught.value.reason


@pytest.mark.filterwarnings("ignore:Palette images")
@pytest.mark.parametrize("name", awkward_images())
def test_pixels_are_resized_then_converted(name: str) -> None:
    data = awkward_images()[name]
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.resize((48, 48), Image.Resampling.BICUBIC).convert("RGB"))
    pixels = Preprocessor(48).pixel_values(data)
    assert pixels.shape == (3, 48, 48)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, expected.transpose(2, 0, 1))


def test_bad_bytes_have_a_reason() -> None:
    photograph = sample("cat.jpg").read_bytes()
    assert reason(b"") == "empty"
    assert reason(b"no image") == "unsupported_format"
    assert reason(photograph[: len(photograph) // 2]) == "corrupt"
    assert reason(photograph, max_bytes=1000) == "too_many_bytes"
    assert reason(photograph, max_pixels=1000) == "too_many_pixels"


def test_formats_outside_the_list_stay_shut() -> None:
    assert reason(encode(Image.new("RGB", (8, 8)), "PPM")) == "unsupported_format"
    assert reason(encode(Image.new("RGB", (8, 8)), "ICO")) == "unsupported_format"


def test_pixels_are_counted_before_they_are_decoded() -> None:
    """A PNG header may claim any size; it must not become gigabytes."""
    assert reason(huge_png()) == "too_many_pixels"


def test_frames_are_limited() -> None:
    frames = [Image.new("L", (4, 4), shade) for shade in range(20)]
    animation = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert reason(animation, max_frames=10) == "too_many_frames"
    assert Preprocessor(8, limits=ImageLimits(max_frames=20)).pixel_values(animation).shape == (3, 8, 8)


def test_a_compressed_text_chunk_is_no_way_around_the_limits() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 70_000_000, zip=True)
    assert reason(encode(Image.new("L", (4, 4)), pnginfo=info)) == "corrupt"


class TestDisplayRules:
    """`display` sees what a person sees; on plain photographs it changes nothing."""

    def test_plain_photographs_are_the_same(self) -> None:
        data = sample("coffee.jpg").read_bytes()
        shown = Preprocessor(64, rules="display").pixel_values(data)
        np.testing.assert_array_equal(shown, Preprocessor(64).pixel_values(data))

    def test_the_camera_is_held_upright(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down
        image = Image.new("L", (64, 64))
        image.paste(255, (0, 0, 64, 32))
        data = encode(image, exif=exif)
        assert Preprocessor(64).pixel_values(data)[0, 0, 0] == 255
        assert Preprocessor(64, rules="display").pixel_values(data)[0, 0, 0] == 0

    def test_transparent_is_white(self) -> None:
        data = encode(Image.new("RGBA", (8, 8), (10, 20, 30, 0)))
        assert Preprocessor(8, rules="display").pixel_values(data).min() == 255

    def test_sixteen_bits_are_scaled(self) -> None:
        data = encode(Image.frombytes("I;16", (8, 8), b"\x00\x80" * 64))
        assert (Preprocessor(8).pixel_values(data) == 255).all()
        assert (Preprocessor(8, rules="display").pixel_values(data) == 128).all()

    def test_other_rules_are_refused(self) -> None:
        with pytest.raises(ValueError, match="'reference' or 'display'"):
            Preprocessor(8, rules="guess")
