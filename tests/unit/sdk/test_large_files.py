"""Files above the server's maximum size are refused by their size, without being read."""

from __future__ import annotations

import os
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.blocking import Blocking, Make
from tests.support.grpc_server import GrpcServer
from tuwen import AsyncClient, Client, ItemOutcome
from tuwen._images import encoded_bytes, pixel_values
from tuwen.failures import ItemError
from tuwen.pixels import ImageLimits, Preprocessor
from tuwen.testing import FakeTransport

no_devices = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither device files nor FIFOs")
LIMITS = (ImageLimits().max_bytes, 100_000_000)
"""The maximum size of an image in bytes: the default of a server, and the limit of a server with another setting."""
SMALL = Preprocessor(8, limits=ImageLimits(max_bytes=1_000))


@pytest.fixture(autouse=True)
def nothing_is_read() -> Iterator[None]:
    """Check that the test allocates less than 8 MiB, so that it cannot read a large file."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def sparse(path: Path, size: int) -> Path:
    """Make a sparse file of a size, which takes no space on the disk, and return its path."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def refused(outcome: ItemOutcome) -> tuple[str, str]:
    assert outcome.error is not None
    return outcome.error.reason, outcome.error.message


@pytest.mark.parametrize("preprocess", ["server", "client"])
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("form", [Path, str, lambda path: path.open("rb")], ids=["Path", "str", "file"])
def test_a_large_file_is_refused_by_its_size(
    make: Make, tmp_path: Path, preprocess: str, limit: int, form: Callable[[Path], Any]
) -> None:
    fake = FakeTransport()
    fake.card = replace(fake.card, max_image_bytes=limit)
    large = form(sparse(tmp_path / "large.tiff", limit + 1))
    expected = ("too_many_bytes", f"the image has {limit + 1} bytes, the limit is {limit}")
    with make(fake, preprocess=preprocess) as clip:
        [called] = clip.try_embed_images([large])
        [streamed] = clip.stream_images([large])
    if hasattr(large, "close"):
        large.close()
    assert refused(called) == refused(streamed) == expected


@pytest.mark.parametrize("limit", LIMITS)
def test_the_limit_is_that_of_the_server(limit: int) -> None:
    with GrpcServer() as server:
        server.fake.card = replace(server.fake.card, max_image_bytes=limit)
        with Client(server.url) as clip, Blocking(lambda: AsyncClient(server.url)) as other:
            assert clip.model_card() == other.model_card() == server.fake.card


def test_a_file_larger_than_a_grpc_message_is_refused(tmp_path: Path) -> None:
    generous = Preprocessor(8, limits=ImageLimits(max_bytes=1 << 40))
    for preprocessor in (None, generous):
        with pytest.raises(ItemError, match="2147483648 bytes, the limit is 2147483647"):
            encoded_bytes(sparse(tmp_path / "huge.tiff", 1 << 31), preprocessor)


def test_only_the_bytes_after_the_current_position_count(tmp_path: Path) -> None:
    with sparse(tmp_path / "archive", 3_000_000).open("rb") as file:
        file.seek(2_999_000)
        assert len(encoded_bytes(file, SMALL)) == 1_000
        file.seek(2_998_999)
        with pytest.raises(ItemError, match="1001 bytes, the limit is 1000"):
            encoded_bytes(file, SMALL)


@no_devices
def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    assert len(encoded_bytes(sparse(tmp_path / "small", 1_000))) == 1_000
    assert encoded_bytes("/dev/null") == b""


@no_devices
def test_a_pipe_without_a_known_size_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(bytes(1_500_000)))
    writer.start()
    assert encoded_bytes(tmp_path / "pipe") == bytes(1_500_000)
    writer.join()


@no_devices
def test_an_endless_device_is_read_up_to_the_limit() -> None:
    with pytest.raises(ItemError, match="1000001 bytes, the limit is 1000000"):
        encoded_bytes("/dev/zero", Preprocessor(8, limits=ImageLimits(max_bytes=1_000_000)))
    with pytest.raises(ItemError, match="1001 bytes, the limit is 1000"):
        pixel_values("/dev/zero", SMALL)


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_bytes_above_the_limit_are_refused(form: Callable[[bytes], Any]) -> None:
    with pytest.raises(ItemError, match="1001 bytes, the limit is 1000"):
        encoded_bytes(form(bytes(1_001)), SMALL)
    assert encoded_bytes(form(bytes(1_000)), SMALL) == bytes(1_000)


def test_a_data_url_above_the_limit_is_refused() -> None:
    with pytest.raises(ItemError, match="1001 bytes, the limit is 1000"):
        encoded_bytes("data:image/png," + "x" * 1_001, SMALL)
