"""Calls and streams take any iterable of items. If a caller passes a single item, the error shows the correct call."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests.support.blocking import Make
from tuwen import Client, InvalidArgumentError
from tuwen._images import encoded_bytes
from tuwen.testing import FakeTransport

TEXTS = ["一只猫", "一只狗"]
PIXELS = np.arange(2 * 6 * 5 * 3, dtype=np.uint8).reshape(2, 6, 5, 3)
PICTURE = encoded_bytes(PIXELS[0])
IMAGES = [PICTURE, encoded_bytes(PIXELS[1])]


def series(items: list[Any], **options: Any) -> Any:
    """Return a pandas Series. pandas is imported only by the tests that need it, because the import takes long."""
    import pandas

    return pandas.Series(items, **options)


async def asynchronous() -> AsyncIterator[str]:
    yield "一只猫"


MANY_TEXTS: dict[str, Callable[[], Any]] = {
    "tuple": lambda: tuple(TEXTS),
    "generator": lambda: (text for text in TEXTS),
    "deque": lambda: deque(TEXTS),
    "keys of a dict": lambda: dict.fromkeys(TEXTS).keys(),
    "array of str": lambda: np.array(TEXTS),
    "array of objects": lambda: np.array(TEXTS, dtype=object),
    "pandas Series": lambda: series(TEXTS, index=[7, 3]),
    "pandas Index": lambda: series([0, 0], index=TEXTS).index,
    "lines of a file": lambda: io.StringIO("\n".join(TEXTS)),
}
MANY_IMAGES: dict[str, Callable[[], Any]] = {
    "generator": lambda: (image for image in IMAGES),
    "array of pictures": lambda: PIXELS,
    "array of objects": lambda: np.array([*IMAGES, None], dtype=object)[:2],
    "pandas Series": lambda: series(IMAGES),
}


@pytest.mark.parametrize("name", MANY_TEXTS)
def test_any_iterable_of_texts_is_accepted(make: Make, name: str) -> None:
    wanted = list(MANY_TEXTS[name]())
    assert [text.strip() for text in wanted] == TEXTS
    with make(FakeTransport()) as clip:
        expected = clip.embed_texts(wanted)
        np.testing.assert_array_equal(clip.embed_texts(MANY_TEXTS[name]()), expected)
        assert [outcome.key for outcome in clip.try_embed_texts(MANY_TEXTS[name]())] == wanted
        streamed = list(clip.stream_texts(MANY_TEXTS[name]()))
        assert [outcome.key for outcome in streamed] == wanted
        np.testing.assert_array_equal([outcome.embedding for outcome in streamed], expected)
        scores = clip.similarity(images=IMAGES, texts=MANY_TEXTS[name]())
        assert scores.cosine.shape == (2, 2)
        assert clip.classify(IMAGES, MANY_TEXTS[name](), templates=iter(["{}"])).labels == tuple(wanted)


@pytest.mark.parametrize("name", MANY_IMAGES)
def test_any_iterable_of_images_is_accepted(make: Make, name: str) -> None:
    with make(FakeTransport()) as clip:
        expected = clip.embed_images(IMAGES)
        np.testing.assert_array_equal(clip.embed_images(MANY_IMAGES[name]()), expected)
        streamed = [outcome.embedding for outcome in clip.stream_images(MANY_IMAGES[name]())]
        np.testing.assert_array_equal(streamed, expected)
        assert clip.similarity(images=MANY_IMAGES[name](), texts=TEXTS).cosine.shape == (2, 2)


@pytest.mark.parametrize("method", ["embed", "try_embed", "stream"])
@pytest.mark.parametrize(
    ("texts", "given"),
    [
        ("一只猫", "str; for one text call {}_texts([text])"),
        (b"cat", "bytes; for one text call {}_texts([text])"),
        (3, "int; for one text call {}_texts([text])"),
        (None, "NoneType; for one text call {}_texts([text])"),
        (np.array("一只猫"), "ndarray of shape (); for one text call {}_texts([text.item()])"),
        ({"a": "一只猫"}, "dict; pass the keys or the values of the mapping"),
    ],
)
def test_rejects_a_single_text(make: Make, method: str, texts: Any, given: str) -> None:
    with make(FakeTransport()) as clip, pytest.raises(InvalidArgumentError) as caught:
        getattr(clip, f"{method}_texts")(texts)
    assert str(caught.value).startswith("expected a list of texts, got " + given.format(method.removeprefix("try_")))


def test_rejects_a_table_and_asks_for_a_column(make: Make) -> None:
    expected = r"got DataFrame of shape \(2, 1\); pass one column with a text in each row"
    with make(FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match=expected):
        clip.embed_texts(series(TEXTS).to_frame())


class Tensor:
    """An array of another library, such as a tensor of torch. Iterating over it yields its first dimension."""

    ndim, shape = 4, (2, 6, 5, 3)

    def __iter__(self) -> Iterator[Any]:
        return iter(PIXELS)


def test_rejects_a_tensor_and_asks_for_arrays(make: Make) -> None:
    expected = r"got Tensor of shape \(2, 6, 5, 3\); pass a NumPy uint8 array of shape \(N, H, W, 3\)"
    with make(FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match=expected):
        clip.embed_images(Tensor())
    with make(FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match="pass one column with an image"):
        clip.embed_images(series(IMAGES).to_frame())


@pytest.mark.parametrize("method", ["embed", "try_embed", "stream"])
@pytest.mark.parametrize(
    ("image", "given"),
    [
        (PIXELS[0], "ndarray of shape (6, 5, 3); for one image call {}_images([image])"),
        (PIXELS[0, :, :, 0], "ndarray of shape (6, 5); "),
        (np.frombuffer(PICTURE, dtype=np.uint8), f"ndarray of shape ({len(PICTURE)},); "),
        (Image.new("RGB", (5, 6)), "Image; for one image call {}_images([image])"),
        (Path("cat.jpg"), "PosixPath; "),
        ("cat.jpg", "str; for one image call {}_images([image])"),
        (PICTURE, "bytes; "),
        (memoryview(PICTURE), f"memoryview of shape ({len(PICTURE)},); "),
        (io.BytesIO(PICTURE), "BytesIO; "),
        ({"cat": PICTURE}, "dict; pass the keys or the values of the mapping"),
    ],
)
def test_rejects_a_single_image(make: Make, method: str, image: Any, given: str) -> None:
    with make(FakeTransport()) as clip, pytest.raises(InvalidArgumentError) as caught:
        getattr(clip, f"{method}_images")(image)
    assert str(caught.value).startswith("expected a list of images, got " + given.format(method.removeprefix("try_")))


def test_every_other_method_rejects_a_single_item(make: Make) -> None:
    with make(FakeTransport()) as clip:
        for call in (
            lambda: clip.similarity(images=PIXELS[0], texts=TEXTS),
            lambda: clip.similarity(images=IMAGES, texts="猫"),
            lambda: clip.classify(PIXELS[0], ["猫"]),
            lambda: clip.classify(IMAGES, "猫"),
            lambda: clip.profile(images="cat.jpg"),
            lambda: clip.profile(texts="猫"),
        ):
            with pytest.raises(
                InvalidArgumentError, match=r"expected a list of (image|text|label)s, got (str|ndarray)"
            ):
                call()


def test_the_error_for_an_asynchronous_iterable_names_the_asynchronous_stream(make: Make) -> None:
    with make(FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match=r"call AsyncClient\.stream_texts"):
        clip.embed_texts(asynchronous())
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match="got async_generator"):
        clip.stream_texts(asynchronous())  # type: ignore[arg-type]


def test_a_stream_checks_its_source_at_once() -> None:
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match="got str"):
        clip.stream_texts("一只猫")


def test_an_item_of_another_type_is_named_by_its_position(make: Make) -> None:
    with make(FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match=r"text 1: .* as str, got float"):
        clip.embed_texts(series(["猫", float("nan")], dtype=object))


def test_each_frame_of_an_animation_has_its_own_vector(make: Make) -> None:
    """Each frame of an animation has its own vector, although `ImageSequence` yields one object for all frames."""
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (10, 90, 200)]
    file = io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    animation = Image.open(file)
    with make(FakeTransport()) as clip:
        expected = clip.embed_images(frames)
        np.testing.assert_array_equal(clip.embed_images(ImageSequence.Iterator(animation)), expected)
        streamed = clip.stream_images(ImageSequence.Iterator(animation))
        np.testing.assert_array_equal([outcome.embedding for outcome in streamed], expected)
