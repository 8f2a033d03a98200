"""Fuzz targets: functions that pass any bytes to code that reads untrusted input, and check its result.

``tests/faults/fuzz.py`` runs the targets with limits on time and memory. ``tests/unit/models/test_corpus.py`` replays
``tests/faults/corpus`` through the targets.
"""

from __future__ import annotations

import contextlib
import io
import json
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.support.models import model_module
from tests.support.repositories import write_short_clip_vocabulary
from tuwen import pixels
from tuwen._images import encoded_bytes
from tuwen.failures import ItemError
from tuwen.pixels import Preprocessor
from tuwen_repository.samples import vocabulary
from tuwen_search.errors import QueryError
from tuwen_search.filters import any_of, checked_id, compared
from tuwen_search.records import describe

__all__ = ["CORPUS", "TARGETS", "Target"]

Target = Callable[[bytes], None]
"""A function that checks one input. An exception is a finding."""

CORPUS = Path(__file__).parent / "corpus"
_REASONS = {
    *("empty", "too_many_bytes", "unsupported_format", "too_many_pixels"),
    *("too_many_frames", "too_many_parts", "too_many_scans", "corrupt"),
}
_CONTEXT_LENGTH = 52
_MOST_TEXT_BYTES = 262_144  # MAX_TEXT_BYTES of the model text_tokenization
_REPEATED = 0xFF  # no text in UTF-8 begins with this byte


def _pixels() -> Target:
    core = pixels
    limits = core.ImageLimits(max_pixels=1_000_000, max_frames=50)  # keeps one input quick
    ways = [
        core.Preprocessor(32, resize, rules, decoding, limits)
        for resize in ("squash", "crop")
        for rules in ("reference", "display")
        for decoding in ("full", "scaled")
    ]

    def check(data: bytes) -> None:
        """Check that the preprocessing returns pixels of the right shape, or refuses the image with a known reason."""
        for way in ways:
            try:
                found = way.pixel_values(data)
            except ItemError as error:
                assert error.reason in _REASONS, error.reason
            else:
                assert found.shape == (3, 32, 32)
                assert found.dtype == np.uint8

    return check


def _exif() -> Target:
    """Return a target that puts any bytes into good pictures as EXIF or XMP data. No such picture may be refused."""
    numbers = np.random.default_rng(0)
    picture = Image.fromarray(numbers.integers(0, 256, (16, 32, 3), dtype=np.uint8))
    way = Preprocessor(32, "squash", "display")
    originals = {name: _file(picture, name) for name in ("JPEG", "PNG", "WEBP")}
    turned = {name: _eight_turns(way, data) for name, data in originals.items()}

    def check(data: bytes) -> None:
        """Check the pixels and the thumbnail of a picture with any metadata.

        The pixels must be those of one of the eight orientations. The file and its PIL image must give equal pixels.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd files; the server ignores this too
            check_all(data)

    def check_all(data: bytes) -> None:
        for name, file in _with_metadata(originals, data):
            found = way.pixel_values(file)
            assert found.tobytes() in turned[name], f"the pixels of the {name} file are those of another picture"
            record = describe(file, source="s", name="n", version="v", metadata={})
            assert {record.width, record.height} == {32, 16}
            assert record.thumbnail
            opened = Image.open(io.BytesIO(file))
            assert (way.pixel_values(encoded_bytes(opened, way)) == found).all()

    return check


def _file(picture: Image.Image, name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, name, **({"lossless": True} if name == "WEBP" else {}), **options)
    return buffer.getvalue()


def _eight_turns(way: Preprocessor, data: bytes) -> set[bytes]:
    with Image.open(io.BytesIO(data)) as opened:
        turns = [opened.copy(), *(opened.transpose(turn) for turn in Image.Transpose)]
    return {np.asarray(way.square(turn)).transpose(2, 0, 1).tobytes() for turn in turns}


def _with_metadata(originals: Mapping[str, bytes], data: bytes) -> list[tuple[str, bytes]]:
    """Return pairs of a format's name and a file of this format.

    Each file holds `data` as its metadata in one place, such as EXIF or XMP.
    """
    jpeg, png = originals["JPEG"], originals["PNG"]
    after_header = 33  # the length of the signature and the IHDR chunk
    segments = [b"Exif\0\0" + data, b"http://ns.adobe.com/xap/1.0/\0" + data]
    chunks = [(b"eXIf", data), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + data)]
    files = [
        ("JPEG", jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:])
        for segment in (segment[:65_533] for segment in segments)
    ]
    files += [("PNG", png[:after_header] + _chunk(kind, content) + png[after_header:]) for kind, content in chunks]
    webp = originals["WEBP"][12:]
    extended = struct.pack(
        "<4sIB3s3s3s", b"VP8X", 10, 8, bytes(3), (31).to_bytes(3, "little"), (15).to_bytes(3, "little")
    )[:18]
    body = b"WEBP" + extended + webp + b"EXIF" + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return [*files, ("WEBP", b"RIFF" + struct.pack("<I", len(body)) + body)]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _tokens() -> Target:
    tokens, wordpiece = model_module("text_tokenization", "tokens"), model_module("text_tokenization", "wordpiece")
    byte_pairs = model_module("text_tokenization", "byte_pairs")
    words = vocabulary().read_text(encoding="utf-8").split("\n")[:-1]
    ids_of = {token: index for index, token in enumerate(words)}
    with tempfile.TemporaryDirectory() as folder:
        files = write_short_clip_vocabulary(Path(folder))
        pairs = json.loads((files / "vocab.json").read_text(encoding="utf-8"))
        merges = (files / "merges.txt").read_text(encoding="utf-8").splitlines()
    rules = [
        (wordpiece.ChineseClipWordPiece(ids_of, straighten_quotes=True), len(words)),
        (wordpiece.BertWordPiece(ids_of, lowercase=True), len(words)),
        (byte_pairs.ClipBytePairs(pairs, merges), len(pairs)),
    ]
    tokenizers = [(tokens.TextTokenizer(one, context_length=_CONTEXT_LENGTH), one, size) for one, size in rules]

    def check(data: bytes) -> None:
        """Check that a text's token ids belong to the vocabulary and do not depend on other texts of the batch."""
        text, chosen = _text(data)
        for tokenizer, rule, size in tokenizers if chosen is None else [tokenizers[chosen]]:
            found = tokenizer.encode([text, "猫"])
            alone = tokenizer.encode([text])
            assert (found.input_ids[0] == alone.input_ids[0]).all()
            ids, mask = found.input_ids[0], found.attention_mask[0]
            assert ids.shape == mask.shape == (_CONTEXT_LENGTH,)
            length = int(mask.sum())
            assert 2 <= length <= _CONTEXT_LENGTH
            assert (mask[:length] == 1).all()
            assert (ids[length:] == 0).all()
            assert (ids[0], ids[length - 1]) == (rule.start, rule.end)
            assert ids.min() >= 0
            assert ids.max() < size

    return check


def _text(data: bytes) -> tuple[str, int | None]:
    """Decode the bytes to a text, and return the text and the index of its tokenizer; None: all tokenizers.

    If the first byte is 0xFF, the bytes from the third byte on are repeated, up to the longest text that the server
    accepts. The second byte chooses the number of repetitions and the tokenizer. Long texts show work that grows with
    the square of a text's length, and a fuzzer cannot mutate long texts well.
    """
    if data[:1] == bytes([_REPEATED]) and len(data) > 2:
        part = data[2:].decode("utf-8", "ignore").encode()
        # Without the bound, the repeated text could take 300 MiB before it is cut.
        often = min(1 << data[1] % 19, _MOST_TEXT_BYTES // max(len(part), 1) + 1)
        return (part * often)[:_MOST_TEXT_BYTES].decode("utf-8", "ignore"), data[1] // 19 % 3
    return data.decode("utf-8", "ignore"), None


def _filters() -> Target:
    from milvus_lite.search.filter.ast import CmpOp, FieldRef, InOp, StringLit
    from milvus_lite.search.filter.parser import parse_expr

    def check(data: bytes) -> None:
        """Check that a text is refused, or becomes a filter that Milvus Lite parses as a comparison with this text."""
        text = data.decode("utf-8", "surrogateescape")
        texts = text.split("\x1f")
        try:
            written, several = compared("name", "==", text), any_of("name", texts)
        except QueryError:
            assert any("\udc80" <= character <= "\udcff" for character in text), (
                "a text was refused, although it can be encoded in UTF-8"
            )
        else:
            read, members = parse_expr(written), parse_expr(several)
            assert isinstance(read, CmpOp)
            assert isinstance(read.left, FieldRef)
            assert isinstance(read.right, StringLit)
            assert (read.left.name, read.op, read.right.value) == ("name", "==", text)
            assert isinstance(members, InOp)
            assert [member.value for member in members.values.elements] == texts
        try:
            assert checked_id(text) == text
        except QueryError:
            return
        assert len(text) == 32
        assert set(text) <= set("0123456789abcdef")

    return check


def _urls() -> Target:
    from tests.faults._web import FakeWeb
    from tuwen import InvalidArgumentError
    from tuwen.connection import channel_options, channel_target
    from tuwen_search.connection import without_secrets

    web = FakeWeb()

    def refused(make: Callable[[str], object], text: str, *errors: type[Exception]) -> None:
        try:
            make(text)
        except errors as error:
            assert "hunter2" not in str(error), f"the message of the error holds a secret: {error}"

    def check(data: bytes) -> None:
        """Check that only allowed hosts are called, and that errors quote no path, query or password of a URL."""
        text = data.decode("utf-8", "surrogateescape").replace("hunter2", "")
        hidden = f"root:hunter2@{text}/hunter2?hunter2#hunter2"
        for url in (f"http://{text}", f"https://{hidden}", text):
            refused(web.fetch, url, ItemError)
            refused(web.fetch_redirect_to, url, ItemError)
        for target in (text, f"root:hunter2@{text}", f"dns:///root:hunter2@{text}"):
            refused(lambda target: channel_options(channel_target(target)), target, InvalidArgumentError)
        refused(encoded_bytes, f"data:{text}", ItemError)
        assert "hunter2" not in without_secrets(f"http://root:hunter2@{text}")

    return check


def _headers() -> Target:
    from tests.faults._web import FakeWeb, GrpcHeaders, answer_of_the_page
    from tuwen import InvalidArgumentError
    from tuwen.connection import checked_headers, headers_of

    web, grpc_headers = FakeWeb(), GrpcHeaders()

    def check(data: bytes) -> None:
        """Check that gRPC sends every header that `checked_headers` accepts.

        The search page and the fetcher must survive any header.
        """
        name, _, value = data.partition(b":")
        for encoding in ("utf-8", "latin-1"):
            pair = {name.decode(encoding, "surrogateescape"): value.decode(encoding, "surrogateescape")}
            try:
                metadata = checked_headers(pair)
            except InvalidArgumentError:
                continue
            grpc_headers.send(metadata)
        try:
            headers_of(data.decode("utf-8", "surrogateescape").splitlines())
        except InvalidArgumentError as error:
            assert "colon" in str(error)
        answer_of_the_page([(b"host", value)])
        answer_of_the_page([(b"host", b"localhost"), (name.lower(), value), (b"content-length", value)])
        with contextlib.suppress(ItemError):
            web.fetch_with_headers([(name, value)])

    return check


TARGETS: Mapping[str, Callable[[], Target]] = {
    "pixels": _pixels,
    "exif": _exif,
    "tokens": _tokens,
    "filters": _filters,
    "urls": _urls,
    "headers": _headers,
}
