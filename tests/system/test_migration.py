"""Migrate a collection of 20,000 pictures with a command that is killed twice, while others search the collection."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.command import TUWEN, started, tuwen_process, wait_until
from tests.support.grpc_server import GrpcServer
from tests.support.picture_folder import picture_name, write_pictures
from tuwen import Client
from tuwen.testing import FakeTransport
from tuwen_files.file_versions import content_checksum, file_stamp
from tuwen_search.generations import chosen_generations
from tuwen_search.records import Picture, picture_id
from tuwen_search.store import MilvusStore, Space
from tuwen_server import ServerOptions

pytest.importorskip("uvicorn")
COUNT = 20_000
KILLED_AT = (5_000, 12_000)  # the numbers of embedded pictures at which the command is killed
OLD, NEW = "a" * 32, "b" * 32


def server_of(fingerprint: str, dimension: int) -> GrpcServer:
    server = GrpcServer()
    server.fake = FakeTransport(embedding_dimension=dimension, fingerprint=fingerprint)
    return server


def embedded(server: GrpcServer) -> int:
    """Return the number of pictures that a fake server has embedded."""
    requests = list(server.fake.requests)
    return sum(len(request.items) for request in requests if request.model == "image_embedding")


def fill(store: str, folder: Path) -> None:
    """Write the pictures of a folder to the collection ``pictures`` as `tuwen index` would, without thumbnails."""
    fake = FakeTransport(embedding_dimension=32, fingerprint=OLD)
    with closing(MilvusStore(store)) as opened, Client(transport=fake) as clip:
        opened.create("pictures", Space(OLD, "fake", fake.card.embedding_dimension))
        for start in range(0, COUNT, 1_000):
            pictures, read = [], []
            for name in map(picture_name, range(start, start + 1_000)):
                data = (folder / name).read_bytes()
                labels = {"label": f"第{start}组"}
                stamp, checksum = file_stamp(folder / name), content_checksum(data)
                key = picture_id(str(folder), name)
                pictures.append(Picture(key, str(folder), name, stamp, len(data), checksum, metadata=labels))
                read.append(data)
            opened.put("pictures", pictures, list(clip.embed_images(read, timeout=120)))
        opened.flush("pictures")


class Searches(threading.Thread):
    """A thread that searches on the page, one query after another, until `stop` is called.

    Attributes:
        url: the address of the page.
        statuses: the HTTP status and the number of pictures of each response; the status is 0 without a response.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.statuses, self._stopped = url, list[tuple[int, int]](), threading.Event()

    def run(self) -> None:
        number = 0
        while not self._stopped.wait(0.2):
            number += 1
            query = urllib.parse.quote(f"第{number}只猫")
            try:
                with urllib.request.urlopen(f"{self.url}/?q={query}", timeout=60) as answer:
                    found = set(re.findall(r"/pictures/([0-9a-f]{32})", answer.read().decode()))
                    self.statuses.append((answer.status, len(found)))
            except OSError as error:
                self.statuses.append((getattr(error, "code", 0), 0))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


@contextmanager
def page(store: str, server: GrpcServer) -> Iterator[str]:
    port = str(ServerOptions.on_free_ports().with_ports_resolved().http_port)
    command = [TUWEN, "web", "pictures", "--store", store, "--url", server.url, "--port", port]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "pictures: 20,000 pictures" in process.stdout.readline()
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(url), running=process, seconds=120)
        yield url
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def search(store: str, server: GrpcServer) -> list[dict[str, Any]]:
    found = tuwen_process("search", "pictures", "一只猫", "--store", store, "--url", server.url, "--json")
    hits: list[dict[str, Any]] = json.loads(found.stdout)["hits"]
    return hits


@pytest.mark.timeout(1_200)
def test_searches_are_answered_while_a_killed_migration_is_finished(tmp_path: Path) -> None:
    folder, store = tmp_path / "photos", str(tmp_path / "search.db")
    folder.mkdir()
    write_pictures(folder, COUNT)
    with server_of(OLD, 32) as before, server_of(NEW, 48) as after:
        fill(store, folder)
        command = ("migrate", "pictures", "--to", after.url, "--store", store, "--json")
        with page(store, before) as url:
            searches = Searches(url)
            searches.start()
            try:
                best = search(store, before)
                for count in KILLED_AT:
                    with started([TUWEN, *command], stdout=subprocess.DEVNULL) as process:
                        wait_until(lambda count=count: embedded(after) >= count, running=process, seconds=300)
                        process.send_signal(signal.SIGKILL)
                        process.wait(60)
                    assert process.returncode == -signal.SIGKILL
                    assert search(store, before) == best
                refused = tuwen_process("search", "pictures", "猫", "--store", store, "--url", after.url, code=1)
                assert "is not finished" in refused.stderr
                report = json.loads(tuwen_process(*command, timeout=500).stdout)
                assert search(store, before) == best
                assert len(search(store, after)) == 10
            finally:
                searches.stop()
        assert (report["pictures"], report["failed"], report["switched"]) == (COUNT, 0, True)
        # A killed run loses at most its unwritten vectors and the requests in flight.
        repeated = embedded(after) - report["checked"] - COUNT
        assert 0 <= repeated <= 2 * (256 + 2 * 64)
        assert report["embedded"] <= COUNT - KILLED_AT[1] + 2 * (256 + 2 * 64)
        assert len(searches.statuses) > 10
        assert [one for one in searches.statuses if one[0] != 200 or one[1] == 0] == []
        compare(store, folder, after)
        dropped = ("collections", "drop", "pictures", "--space", OLD, "--yes", "--store", store)
        tuwen_process(*dropped)
        with page(store, after) as url, urllib.request.urlopen(f"{url}/?q=cat") as answer:
            assert answer.status == 200


def compare(store: str, folder: Path, server: GrpcServer) -> None:
    """Check that the migrated records equal the old records, and that the new server gives the migrated vectors."""
    fields = ["source", "name", "version", "sha256", "metadata"]
    with closing(MilvusStore(store)) as opened, Client(server.url) as clip:
        places = [chosen_generations(opened, "pictures", fingerprint)[0].place for fingerprint in (OLD, NEW)]
        for place in places:
            opened.load(place)
        records = [{row["id"]: row for row in opened.every(place, fields)} for place in places]
        assert records[0] == records[1]
        numbers = range(0, COUNT, 137)
        ids = [picture_id(str(folder), picture_name(number)) for number in numbers]
        kept = opened.get(places[1], ids)
        expected = clip.embed_images([folder / picture_name(number) for number in numbers])
        vectors = np.stack([kept[key][1] for key in ids])
        assert np.allclose(vectors, expected, atol=1e-6)
