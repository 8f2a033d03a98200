"""Pictures get a record with size and thumbnail, and queries are combined from their parts."""

from __future__ import annotations

import io
import json
import struct
from datetime import datetime

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tuwen_search import Hit, Picture, Query, QueryError
from tuwen_search.contact_sheet import contact_sheet
from tuwen_search.query import combined, explained, parts_of
from tuwen_search.records import describe, plain_metadata

pillow_heif.register_heif_opener()  # for `Image.save`


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def described(data: bytes) -> Picture:
    return describe(data, source="/pictures", name="a", version="1", metadata={})


def test_a_photograph_has_its_size_and_a_small_thumbnail() -> None:
    picture = described(encoded(Image.new("RGB", (2000, 1000), "red"), "JPEG"))
    assert (picture.width, picture.height) == (2000, 1000)
    with Image.open(io.BytesIO(picture.thumbnail)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("WEBP", (192, 96))
        assert np.abs(np.asarray(thumbnail, int) - (254, 0, 0)).max() < 6
    assert picture.thumbnail_url.startswith("data:image/webp;base64,")


def with_orientation(kind: int, value: bytes) -> bytes:
    entry = struct.pack("<HHHI", 1, 0x0112, kind, len(value)) + value.ljust(4, b"\0")
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + entry + bytes(4)
    return encoded(Image.new("RGB", (40, 20), "red"), "JPEG", exif=exif)


@pytest.mark.parametrize(("kind", "value"), [(2, b"6\0"), (3, b"\1"), (5, b"\xff\xff\xff\xff"), (2, b"6\0" * 99)])
def test_a_broken_orientation_raises_nothing(kind: int, value: bytes) -> None:
    assert described(with_orientation(kind, value)).file_size > 0


@pytest.mark.parametrize(
    "error", [TypeError("no"), struct.error("no"), RecursionError(), KeyError("no"), MemoryError()]
)
def test_no_error_of_a_decoder_ends_a_run(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Image.Image:
        raise error

    monkeypatch.setattr("tuwen_search.records.upright", broken)
    picture = described(encoded(Image.new("RGB", (40, 20)), "JPEG"))
    assert (picture.width, picture.height, picture.thumbnail) == (0, 0, b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_every_format_that_the_server_embeds_has_a_thumbnail(kind: str) -> None:
    picture = described(encoded(Image.new("RGB", (40, 20), "red"), kind))
    assert (picture.width, picture.height) == (40, 20)
    assert picture.thumbnail


def test_a_picture_of_too_many_parts_has_no_thumbnail() -> None:
    """A JPEG with too many segments gets no thumbnail, although Pillow would decode it after reading every segment."""
    picture = encoded(Image.new("RGB", (40, 40), "blue"), "JPEG")
    many = picture[:2] + b"\xff\xe5\0\2" * 20_001 + picture[2:]
    assert described(picture).thumbnail
    assert described(many).thumbnail == b""


def test_metadata_of_any_type_can_be_kept() -> None:
    circle: list[object] = []
    circle.append(circle)
    metadata: dict[str, object] = {
        **{"none": None, "nan": float("nan"), "large": 1 << 64, "time": datetime(2026, 1, 2), "circle": circle},
        **{"half": "\ud800", "list": (1, 2.5, "猫"), "inner": {"yes": True}},
    }
    plain = plain_metadata(metadata)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain["none"], plain["nan"], plain["large"]) == (None, None, "18446744073709551616")
    assert (plain["time"], plain["half"]) == ("2026-01-02 00:00:00", "?")
    assert (plain["list"], plain["inner"]) == ([1, 2.5, "猫"], {"yes": True})


def test_a_photograph_that_lies_on_its_side_is_put_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = described(encoded(Image.new("RGB", (300, 100), "blue"), "JPEG", exif=exif))
    assert (picture.width, picture.height) == (100, 300)
    with Image.open(io.BytesIO(picture.thumbnail)) as thumbnail:
        assert thumbnail.size == (64, 192)


def test_transparency_stays() -> None:
    picture = described(encoded(Image.new("RGBA", (10, 10), (0, 0, 0, 0)), "PNG"))
    with Image.open(io.BytesIO(picture.thumbnail)) as thumbnail:
        assert thumbnail.mode == "RGBA"


@pytest.mark.parametrize("data", [b"", b"no picture", encoded(Image.new("L", (9, 9)), "PNG")[:40]])
def test_bytes_that_cannot_be_decoded_have_no_size(data: bytes) -> None:
    picture = described(data)
    assert (picture.width, picture.height, picture.thumbnail, picture.thumbnail_url) == (0, 0, b"", "")
    assert picture.file_size == len(data)
    assert len(picture.sha256) == 64


def test_names_that_could_be_mistaken_for_each_other_have_their_own_ids() -> None:
    ids = {
        describe(b"", source=s, name=n, version="", metadata={}).id for s, n in (("a", "b/c"), ("a/b", "c"), ("a", "c"))
    }
    assert len(ids) == 3
    assert all(len(one) == 32 for one in ids)


def unit(*numbers: float) -> np.ndarray:
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


def test_parts_are_weighed_and_explained() -> None:
    query = Query("猫", image=b"", without=["狗", "鱼"], text_weight=0.25, without_weight=0.5)
    texts, image = np.stack([unit(1, 0, 0), unit(0, 1, 0), unit(0, 1, 1)]), unit(0, 0, 1)
    parts = parts_of(query, texts, [image])
    assert [(part.name, part.weight) for part in parts] == [
        ("猫", 0.25),
        ("picture", 0.75),
        ("狗", -0.25),
        ("鱼", -0.25),
    ]
    vector = combined(parts)
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert explained(parts, unit(1, 0, 0)) == pytest.approx({"猫": 1, "picture": 0, "狗": 0, "鱼": 0})
    alone = parts_of(Query("猫"), texts[:1], [])
    assert np.allclose(combined(alone), texts[0])


def test_wanted_and_excluded_parts_must_not_cancel_out() -> None:
    query = Query("猫", without=["猫咪"], without_weight=1)
    with pytest.raises(QueryError, match="cancel each other out"):
        combined(parts_of(query, np.stack([unit(1, 0), unit(1, 0)]), []))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "expected a text"),
        ({"text": "猫", "without": "狗"}, "a list of texts"),
        ({"text": "猫", "without": [" "]}, "got an empty text"),
        ({"text": "猫", "text_weight": 2}, "text_weight: expected a finite number from 0 to 1"),
        ({"text": "猫", "without_weight": -1}, "without_weight: expected a finite number of at least 0"),
    ],
)
def test_empty_queries_and_invalid_weights_are_rejected(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(QueryError, match=said):
        Query(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_contact_sheet_has_room_for_every_hit(count: int) -> None:
    picture = described(encoded(Image.new("RGB", (100, 50), "green"), "PNG"))
    nameless = described(b"no picture")
    hits = [Hit(picture if number % 2 else nameless, 0.5, {}) for number in range(count)]
    sheet = contact_sheet(hits, "戴眼镜的猫 <b>" * 20)
    assert sheet.height > 250 * max(1, -(-count // 5))
    assert sheet.width > 600
    green = np.abs(np.asarray(sheet, int) - (0, 128, 0)).max(2) < 8
    assert green.sum() == pytest.approx(count // 2 * 100 * 50, abs=500)


@pytest.mark.parametrize(
    ("query", "pictures", "names"),
    [
        (Query("picture", image=b"p"), 1, ["text: picture", "picture"]),
        (Query("picture", without=["text: picture"]), 0, ["picture", "text: picture"]),
        (
            Query("猫", image=b"p", without=["picture", "狗", "狗"]),
            1,
            ["猫", "picture", "without: picture", "狗", "without: 狗"],
        ),
        (Query(image=b"p", like="0" * 32), 2, ["picture", "another: picture"]),
    ],
)
def test_every_part_of_a_query_keeps_a_name_of_its_own(query: Query, pictures: int, names: list[str]) -> None:
    vectors = np.eye(6, dtype=np.float32)
    parts = parts_of(query, vectors[: len(query.texts)], list(vectors[-pictures:] if pictures else []))
    assert [part.name for part in parts] == names
    assert len(explained(parts, vectors[0])) == len(parts)


@pytest.mark.parametrize("without", [["猫"], ["狗", " 猫 "]])
def test_rejects_a_text_that_is_both_wanted_and_not_wanted(without: list[str]) -> None:
    with pytest.raises(QueryError, match="'猫' is both wanted and excluded"):
        Query("猫", without=without)
