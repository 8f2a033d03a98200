"""The reason, message and index of a refused item reach the user unchanged."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from tests.support.blocking import Make
from tuwen import ItemFailure
from tuwen.failures import ItemError
from tuwen.pixels import ImageLimits, Preprocessor
from tuwen.testing import FakeTransport

FAILURE = ItemFailure(3, "corrupt", "cannot decode: broken data stream: byte 7: unexpected")


def test_a_failure_survives_the_conversion_to_a_status_and_back() -> None:
    assert FAILURE.status == "corrupt: cannot decode: broken data stream: byte 7: unexpected"
    assert ItemFailure.from_status(3, FAILURE.status) == FAILURE


def test_an_error_becomes_the_failure_of_its_item() -> None:
    error = ItemError(FAILURE.reason, FAILURE.message)
    assert error.at(3) == FAILURE
    assert str(error) == FAILURE.message
    assert pickle.loads(pickle.dumps(error)).at(3) == FAILURE


def jpeg_without_its_end() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()[:-400]


@pytest.mark.parametrize("data", [b"", b"no image", jpeg_without_its_end()], ids=["empty", "no image", "cut off"])
def test_the_client_reports_the_error_of_the_decoder_unchanged(make: Make, data: bytes) -> None:
    with pytest.raises(ItemError) as caught:
        Preprocessor(224, limits=ImageLimits()).pixel_values(data)
    with make(FakeTransport(), preprocess="client") as clip:
        outcomes = clip.try_embed_images([np.zeros((9, 9, 3), np.uint8), data])
    assert [outcome.error for outcome in outcomes] == [None, caught.value.at(1)]


def test_a_file_that_cannot_be_read_is_a_failure_of_its_item(make: Make) -> None:
    with make(FakeTransport()) as clip:
        [outcome] = clip.try_embed_images(["no such file.jpg"])
    assert outcome.error == ItemFailure(0, "unreadable", "cannot read 'no such file.jpg': No such file or directory")
