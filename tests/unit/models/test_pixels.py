"""The preprocessing of images: it equals the reference, and rejects images beyond its limits."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, PngImagePlugin, TiffImagePlugin

from tests.support.images import huge_png, jpeg_of_scans, tiff_of_frames
from tuwen import pixels
from tuwen.failures import ItemError
from tuwen_build.checkpoints import Preprocessing
from tuwen_build.verification.reference import reference_pixels
from tuwen_repository.samples import awkward_images, sample

ImageLimits, Preprocessor = pixels.ImageLimits, pixels.Preprocessor


def encode(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, image_format, **options)
    return encoded.getvalue()


def rejection(data: bytes, **limits: int) -> str:
    with pytest.raises(ItemError) as caught:
        Preprocessor(32, limits=ImageLimits(**limits)).pixel_values(data)
    assert caught.value.message
    return caught.value.reason


@pytest.mark.filterwarnings("ignore:Palette images")
@pytest.mark.parametrize("name", awkward_images())
def test_pixels_are_resized_then_converted(name: str) -> None:
    data = awkward_images()[name]
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.resize((48, 48), Image.Resampling.BICUBIC).convert("RGB"))
    values = Preprocessor(48).pixel_values(data)
    assert values.shape == (3, 48, 48)
    assert values.dtype == np.uint8
    assert values.flags.c_contiguous
    np.testing.assert_array_equal(values, expected.transpose(2, 0, 1))


class TestCrop:
    """CLIP's own rules: resize the shortest edge, then crop the centre."""

    @pytest.mark.filterwarnings("ignore:Palette images")
    @pytest.mark.parametrize("name", awkward_images())
    def test_pixels_equal_the_reference(self, name: str) -> None:
        data = awkward_images()[name]
        expected = reference_pixels(data, Preprocessing(48, "crop", (0, 0, 0), (1, 1, 1)))
        np.testing.assert_array_equal(Preprocessor(48, resize="crop").pixel_values(data), expected)

    @pytest.mark.parametrize(
        "size", [(49, 48), (48, 49), (51, 48), (97, 51), (51, 97), (333, 777), (48, 48), (47, 480)]
    )
    def test_edges_round_as_in_the_reference(self, size: tuple[int, int]) -> None:
        gradient = Image.merge("RGB", [Image.linear_gradient("L").resize(size).rotate(angle) for angle in (0, 90, 180)])
        data = encode(gradient)
        expected = reference_pixels(data, Preprocessing(48, "crop", (0, 0, 0), (1, 1, 1)))
        np.testing.assert_array_equal(Preprocessor(48, resize="crop").pixel_values(data), expected)

    def test_rejects_an_image_that_would_be_resized_to_a_huge_one(self) -> None:
        """An extremely narrow image is refused. 60,000 x 1 pixels would be resized to 224 x 13,440,000."""
        needle = encode(Image.new("L", (60_000, 1)))
        with pytest.raises(ItemError, match="60000x1 pixels is too narrow: resizing would make 224x13440000 pixels"):
            Preprocessor(224, resize="crop").pixel_values(needle)
        assert Preprocessor(224).pixel_values(needle).shape == (3, 224, 224)

    def test_rejects_unknown_choices(self) -> None:
        with pytest.raises(ValueError, match="'squash' or 'crop'"):
            Preprocessor(8, resize="stretch")


def test_rejects_bad_bytes_with_a_reason() -> None:
    photograph = sample("cat.jpg").read_bytes()
    assert rejection(b"") == "empty"
    assert rejection(b"no image") == "unsupported_format"
    assert rejection(photograph[: len(photograph) // 2]) == "corrupt"
    assert rejection(photograph, max_bytes=1000) == "too_many_bytes"
    assert rejection(photograph, max_pixels=1000) == "too_many_pixels"


def test_rejects_formats_outside_the_list() -> None:
    assert rejection(encode(Image.new("RGB", (8, 8)), "PPM")) == "unsupported_format"
    assert rejection(encode(Image.new("RGB", (8, 8)), "ICO")) == "unsupported_format"


def test_pixels_are_counted_before_they_are_decoded() -> None:
    """An image with too many pixels is refused before decoding.

    A PNG's header may claim any size, and decoding could then need gigabytes.
    """
    assert rejection(huge_png()) == "too_many_pixels"


def test_rejects_too_many_frames() -> None:
    frames = [Image.new("L", (4, 4), shade) for shade in range(20)]
    animation = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert rejection(animation, max_frames=10) == "too_many_frames"
    assert Preprocessor(8, limits=ImageLimits(max_frames=20)).pixel_values(animation).shape == (3, 8, 8)


def png_of_empty_chunks(number: int) -> bytes:
    data = encode(Image.new("L", (4, 4)))
    chunk = struct.pack(">I4sI", 0, b"tEXt", zlib.crc32(b"tEXt"))
    return data[:33] + chunk * number + data[33:]


def gif_of_empty_comments(number: int) -> bytes:
    data = encode(Image.new("L", (4, 4)), "GIF")
    start = 13 + (3 << ((data[10] & 7) + 1))
    return data[:start] + b"!\xfe\x01x\x00" * number + data[start:]


def tiff_of_strips(number: int) -> bytes:
    entry = struct.pack("<HHII", 273, 4, number, 26)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + bytes(4 + 4 * number)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(png_of_empty_chunks(20_001), "too_many_parts", id="png"),
        pytest.param(gif_of_empty_comments(20_000), "too_many_parts", id="gif"),
        pytest.param(b"\xff\xd8" + b"\xff\xe0\0\2" * 20_001, "too_many_parts", id="jpeg"),
        pytest.param(tiff_of_strips(20_001), "too_many_parts", id="strips"),
        pytest.param(tiff_of_frames(1_001), "too_many_frames", id="frames"),
        pytest.param(tiff_of_frames(100_000), "too_many_frames", id="many-frames"),
        pytest.param(jpeg_of_scans(65), "too_many_scans", id="scans"),
    ],
)
def test_rejects_a_structure_that_takes_long_before_pillow_walks_through_it(
    data: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("Pillow opened the file"))
    assert rejection(data) == reason


@pytest.mark.parametrize("image_format", ["GIF", "TIFF"])
def test_frames_are_counted_without_pillow(image_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("L", (4, 4), shade) for shade in range(3)]
    data = encode(frames[0], image_format, save_all=True, append_images=frames[1:])
    plugin = GifImagePlugin.GifImageFile if image_format == "GIF" else TiffImagePlugin.TiffImageFile
    monkeypatch.setattr(plugin, "n_frames", property(lambda _: pytest.fail("Pillow counted the frames")))
    assert Preprocessor(8).pixel_values(data).shape == (3, 8, 8)
    assert rejection(data, max_frames=2) == "too_many_frames"


@pytest.mark.parametrize("build", [png_of_empty_chunks, gif_of_empty_comments])
def test_many_parts_within_the_limit_are_accepted(build: Callable[[int], bytes]) -> None:
    assert Preprocessor(8).pixel_values(build(1_000)).shape == (3, 8, 8)


def test_a_progressive_photograph_has_fewer_scans_than_the_limit() -> None:
    data = encode(Image.open(sample("cat.jpg")), "JPEG", progressive=True)
    assert Preprocessor(8).pixel_values(data).shape == (3, 8, 8)
    assert rejection(data, max_scans=5) == "too_many_scans"


def test_a_compressed_text_chunk_counts_against_the_limits() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 70_000_000, zip=True)
    assert rejection(encode(Image.new("L", (4, 4)), pnginfo=info)) == "corrupt"


class TestDisplayRules:
    """The rules `display`: an image looks as in a viewer, and plain photographs stay the same."""

    def test_plain_photographs_stay_the_same(self) -> None:
        data = sample("coffee.jpg").read_bytes()
        shown = Preprocessor(64, image_rules="display").pixel_values(data)
        np.testing.assert_array_equal(shown, Preprocessor(64).pixel_values(data))

    def test_applies_the_orientation_of_the_camera(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down
        image = Image.new("L", (64, 64))
        image.paste(255, (0, 0, 64, 32))
        data = encode(image, exif=exif)
        assert Preprocessor(64).pixel_values(data)[0, 0, 0] == 255
        assert Preprocessor(64, image_rules="display").pixel_values(data)[0, 0, 0] == 0

    def test_shows_transparency_as_white(self) -> None:
        data = encode(Image.new("RGBA", (8, 8), (10, 20, 30, 0)))
        assert Preprocessor(8, image_rules="display").pixel_values(data).min() == 255

    def test_scales_sixteen_bits(self) -> None:
        data = encode(Image.frombytes("I;16", (8, 8), b"\x00\x80" * 64))
        assert (Preprocessor(8).pixel_values(data) == 255).all()
        assert (Preprocessor(8, image_rules="display").pixel_values(data) == 128).all()

    def test_rejects_unknown_choices(self) -> None:
        with pytest.raises(ValueError, match="'reference' or 'display'"):
            Preprocessor(8, image_rules="guess")


class TestScaledJpegs:
    full, scaled = Preprocessor(32), Preprocessor(32, jpeg_decoding="scaled")

    @pytest.mark.parametrize("resize", ["squash", "crop"])
    @pytest.mark.parametrize("rules", ["reference", "display"])
    @pytest.mark.parametrize("name", ["cat.jpg", "coffee.jpg", "astronaut.jpg", "rocket.jpg"])
    def test_a_large_jpeg_is_nearly_the_same(self, name: str, rules: str, resize: str) -> None:
        data = sample(name).read_bytes()
        full, scaled = (
            Preprocessor(32, resize, rules, jpeg_decoding=decoding).pixel_values(data).astype(int)
            for decoding in ("full", "scaled")
        )
        assert 0 < np.abs(full - scaled).mean() < 3
        assert np.corrcoef(full.ravel(), scaled.ravel())[0, 1] > 0.998

    def test_a_jpeg_below_four_times_the_side_is_the_same(self) -> None:
        with Image.open(sample("cat.jpg")) as cat:
            data = encode(cat.resize((127, 200)), "JPEG")
        assert np.array_equal(self.full.pixel_values(data), self.scaled.pixel_values(data))

    def test_other_formats_are_the_same(self) -> None:
        with Image.open(sample("cat.jpg")) as cat:
            for image_format in ("PNG", "WEBP", "TIFF"):
                data = encode(cat, image_format)
                assert np.array_equal(self.full.pixel_values(data), self.scaled.pixel_values(data))

    def test_rejects_unknown_choices(self) -> None:
        with pytest.raises(ValueError, match="jpeg_decoding: expected 'full' or 'scaled', got 'fast'"):
            Preprocessor(32, jpeg_decoding="fast")
