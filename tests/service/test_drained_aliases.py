"""A server answers the requests to an alias that are in flight when the server is stopped."""

from __future__ import annotations

import io
import threading
from dataclasses import replace

import psutil
from PIL import Image

from tests.support.command import wait_until
from tests.support.repositories import Built
from tests.support.servers import RecordedServer
from tuwen import Client
from tuwen_build.options import BuildOptions
from tuwen_server import ModelAdministrator, ServerOptions

KEY = "the-key-of-the-test"


def large_picture() -> bytes:
    """Return a PNG of 16 megapixels, which is small as a file and takes long to decode."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((4000, 4000)).convert("RGB").save(file, "PNG", compress_level=1)
    return file.getvalue()


def seconds_of(process: psutil.Process) -> float:
    """Return the CPU time of a process in user mode, in seconds."""
    return float(process.cpu_times().user)


def test_a_request_in_the_first_step_of_an_alias_is_answered_before_the_server_ends(built: Built) -> None:
    """A request to an alias is answered, although the server stops while the request is preprocessed.

    The preprocessing takes longer than the unloading of the alias. The encoder still accepts the request.
    """
    lines: list[str] = []
    options = replace(ServerOptions.on_free_ports(), key=KEY)
    with RecordedServer(built(BuildOptions(name="b16")), options, on_log_line=lines.append) as server:
        with ModelAdministrator(server.grpc_url, key=KEY) as administrator:
            administrator.alias("shop", "b16")
        [decoder] = [
            process
            for process in psutil.Process(server.pid).children(recursive=True)
            if "b16_image_preprocessing_0_0" in process.cmdline()
        ]
        pictures = [large_picture()] * 32
        shapes: list[tuple[int, ...]] = []
        with Client(server.grpc_url, model="shop", timeout=120) as clip:
            clip.embed_images(pictures[:1])
            before = seconds_of(decoder)
            caller = threading.Thread(target=lambda: shapes.append(clip.embed_images(pictures).shape))
            caller.start()
            wait_until(lambda: seconds_of(decoder) > before + 0.2)  # the request is in its first step
            server.stop()
            caller.join(120)
        assert [shape[0] for shape in shapes] == [32]
        assert not [line for line in lines if line.startswith("error:")]
