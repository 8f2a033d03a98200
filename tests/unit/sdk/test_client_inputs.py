"""The checks and conversions of images, texts, addresses and timeouts before a request is sent."""

from __future__ import annotations

import base64
import io
import textwrap
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tuwen import Client, ClientClosedError, InvalidArgumentError, InvalidItemsError, _routes
from tuwen._images import encoded_bytes
from tuwen.testing import FakeTransport


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "LAB", "F"])
def test_pil_images_are_sent_losslessly(mode: str) -> None:
    image = Image.effect_noise((9, 7), 80).convert("RGB")
    image = Image.frombytes("I;16", (9, 7), bytes(range(126))) if mode == "I;16" else _convert(image, mode)
    with Image.open(io.BytesIO(encoded_bytes(image))) as decoded:
        assert decoded.mode == mode
        assert decoded.convert(mode).tobytes() == image.tobytes()


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if mode in ("LAB", "LA"):
        return Image.frombytes(mode, image.size, bytes(range(63 * (3 if mode == "LAB" else 2))))
    return image.convert(mode)


def test_closing_a_client_while_it_decodes_raises_client_closed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Client(transport=FakeTransport(), preprocess="client")
    clip.model_card()
    monkeypatch.setattr(_routes, "pixel_values", lambda *_: clip.close() or bytes(3 * 224 * 224))
    with pytest.raises(ClientClosedError):
        clip.embed_images([np.zeros((9, 9, 3), np.uint8)] * 64)
    with pytest.raises(ClientClosedError):
        clip.embed_images([np.zeros((9, 9, 3), np.uint8)] * 2)
    assert clip._pipeline._routes._threads._pool is None  # no thread pool is left running


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
def test_arrays_are_sent_losslessly(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with Image.open(io.BytesIO(encoded_bytes(array))) as decoded:
        np.testing.assert_array_equal(
            np.asarray(decoded), array.reshape(decoded.size[1], decoded.size[0], -1).squeeze()
        )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (3, "got int"),
        (np.zeros((4, 4), dtype=np.float32), "uint8"),
        (np.zeros((3, 4, 5), dtype=np.uint8), r"got \(3, 4, 5\)"),
        (np.zeros((0, 4), dtype=np.uint8), r"got \(0, 4\)"),
    ],
)
def test_an_invalid_image_is_refused_by_its_index(image: Any, message: str) -> None:
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match=f"image 1: .*{message}"):
        clip.embed_images([b"first", image])


PIXEL = encoded_bytes(np.full((1, 1, 3), 200, dtype=np.uint8))


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64," + base64.b64encode(PIXEL).decode(),
        "DATA:image/png;charset=x;BASE64," + base64.urlsafe_b64encode(PIXEL).decode().rstrip("="),
        "data:;base64," + "\n".join(textwrap.wrap(base64.b64encode(PIXEL).decode(), 20)),
        "data:image/png," + urllib.parse.quote_from_bytes(PIXEL),
    ],
)
def test_data_urls_carry_the_image(url: str) -> None:
    assert encoded_bytes(url) == PIXEL


@pytest.mark.parametrize(
    ("url", "message"),
    [("data:image/png;base64", "comma"), ("data:;base64,%%%", "base64"), ("data:,\udcff%2", "surrogate pair")],
)
def test_a_broken_data_url_is_a_failure_of_its_item(url: str, message: str) -> None:
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidItemsError, match=f"item 1: .*{message}"):
        clip.embed_images([PIXEL, url])


def test_files_are_read_from_their_current_position() -> None:
    file = io.BytesIO(b"header" + PIXEL)
    file.seek(6)
    assert encoded_bytes(file) == PIXEL


def test_an_unreadable_file_is_a_failure_of_its_item(tmp_path: Path) -> None:
    closed = io.BytesIO(PIXEL)
    closed.close()
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidItemsError) as caught:
        clip.embed_images([PIXEL, closed, tmp_path / "nul\0.png"])
    assert [failure.index for failure in caught.value.failures] == [1, 2]


def test_a_file_in_text_mode_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="binary mode"):
        encoded_bytes(io.StringIO("x"))  # type: ignore[arg-type]


def test_a_web_address_without_a_fetcher_is_refused() -> None:
    with (
        Client(transport=FakeTransport()) as clip,
        pytest.raises(InvalidArgumentError, match="image 0: web addresses need a client"),
    ):
        clip.embed_images(["https://example.org/cat.jpg"])


def test_a_string_is_a_path_and_a_missing_file_is_a_failure_of_its_item(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    Image.new("RGB", (4, 4)).save(good)
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidItemsError) as caught:
        clip.embed_images([str(good), str(tmp_path / "missing.jpg"), good])
    (failure,) = caught.value.failures
    assert (failure.index, failure.reason) == (1, "unreadable")
    assert "missing.jpg" in failure.message


def test_half_a_surrogate_pair_is_a_failure_of_its_item() -> None:
    texts = ["猫", "\ud83d", "狗"]
    with Client(transport=FakeTransport()) as clip:
        outcomes = [*clip.try_embed_texts(texts), *clip.stream_texts(texts)]
    assert [outcome.error and outcome.error.reason for outcome in outcomes] == [None, "not_utf8", None] * 2


@pytest.mark.parametrize("text", [None, b"cat"])
def test_an_invalid_text_is_refused_by_its_index(text: Any) -> None:
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match="text 1: "):
        clip.embed_texts(["猫", text])


@pytest.mark.parametrize("url", ["localhost", "http://localhost:8000", "https://clip:443"])
def test_invalid_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidArgumentError):
        Client(url)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_invalid_timeouts_are_refused(timeout: float) -> None:
    with pytest.raises(InvalidArgumentError, match="timeout"):
        Client("localhost:8001", timeout=timeout)


def test_a_call_is_split_into_small_requests() -> None:
    transport = FakeTransport()
    with Client(transport=transport) as clip:
        clip.embed_texts([str(number) for number in range(70)])
    assert [len(request.items) for request in transport.requests] == [32, 32, 6]
    assert len({request.request_id for request in transport.requests}) == 3


def test_similarity_needs_images_and_texts() -> None:
    with Client(transport=FakeTransport()) as clip:
        with pytest.raises(InvalidArgumentError, match="at least one text"):
            clip.similarity(images=[b"x"], texts=[])
        with pytest.raises(InvalidArgumentError, match="at least one image"):
            clip.similarity(images=[], texts=["猫"])
