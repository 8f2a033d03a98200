"""Fixtures and rules for all tests: cached artefacts, shared servers, and reruns after known faults of Triton.

This module imports neither torch nor the server's packages before a test needs them. ``tests/README.md`` has all rules.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.artefacts import Artefacts
from tests.support.backend_lane import lane_header, runs_in_lane
from tests.support.light_lane import light_header, missing_library, without_library
from tests.support.paths import CACHE

if TYPE_CHECKING:
    from tests.support.originals import Originals
    from tests.support.repositories import Built
    from tests.support.servers import RecordedServer, SharedServers
    from tuwen import Client

# If a shell starts pytest in the background, pytest ignores SIGINT, and so would the programs that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

_TIERS = ("unit", "contract", "service", "system")
_STARTED = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--artefacts",
        type=Path,
        default=CACHE / "artefacts",
        help="Folder in which checkpoints and built repositories are kept between runs.",
    )
    parser.addoption(
        "--every-library",
        action="store_true",
        help="Fail a test, instead of skipping it, if a library of the full environment is missing.",
    )
    parser.addoption("--pictures", type=int, default=80, help="Number of pictures in test_lost_sources.py.")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Switch off Nagle's algorithm for the socket of pytest-rerunfailures (16.7).

    The workers of the plugin send two small messages for each test. With the algorithm, the second message waits 40 ms
    for a delayed acknowledgement of the first one. With 2,300 short tests, these waits take most of the time.
    """
    connection = getattr(getattr(config, "failures_db", None), "sock", None)
    if connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Return the header lines that say which PyTorch backend the servers run and which libraries are missing."""
    return [lane_header(os.environ), *light_header(every_library=config.getoption("every_library"))]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip a module that imports a missing library of the full environment. With ``--every-library``, fail instead."""
    report = yield
    return report if collector.config.getoption("every_library") else without_library(report, collector.path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the marker of its folder, unless it or its parameter has the marker `service` or `system`."""
    for item in items:
        tier = item.path.relative_to(Path(__file__).parent).parts[0]
        assert tier in _TIERS, f"{item.nodeid} lies in none of the folders {', '.join(_TIERS)}"
        if item.get_closest_marker("service") is None and item.get_closest_marker("system") is None:
            item.add_marker(tier)
        if item.get_closest_marker("our_backend") is not None and runs_in_lane(os.environ):
            item.add_marker(pytest.mark.skip(reason="tests a feature that only our own PyTorch backend has"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    item.stash[_STARTED] = time.monotonic()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _with_known_trouble_named(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _with_known_trouble_named(item))


def _with_known_trouble_named(item: pytest.Item) -> Generator[None, object, object]:
    """Raise `KnownServerTroubleError` if a test fails while the embedded server shows a known fault.

    With ``--only-rerun`` in pyproject.toml, pytest runs such a test once more, with a new server, and counts a rerun.
    """
    try:
        return (yield)
    except Exception as error:
        library = missing_library(error)
        if library is not None and not item.config.getoption("every_library"):
            pytest.skip(f"needs {library}, which this environment lacks")
        if item.get_closest_marker("unit") is not None or item.get_closest_marker("provokes_trouble") is not None:
            raise
        from tests.support.servers import KnownServerTroubleError, known_trouble

        trouble = known_trouble(item.stash[_STARTED], f"{error!r} {error}")
        if trouble is None:
            raise
        raise KnownServerTroubleError(trouble) from error


@pytest.fixture(scope="module", autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Fail a module if its tests leave a running thread that is not a daemon.

    Such a thread would keep Python from ending.
    """
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if not thread.daemon]
    for thread in left:
        thread.join(10)
    assert not [thread for thread in left if thread.is_alive()]


@pytest.fixture(scope="session")
def artefacts(pytestconfig: pytest.Config) -> Artefacts:
    """Return the cache of checkpoints and built repositories."""
    return Artefacts(pytestconfig.getoption("artefacts").absolute())


@pytest.fixture(scope="session")
def checkpoint(artefacts: Artefacts) -> Path:
    """Return a small seeded Chinese-CLIP checkpoint. Do not change its files."""
    from tests.support.repositories import tiny_checkpoint

    return tiny_checkpoint(artefacts)


@pytest.fixture(scope="session")
def minimal_checkpoint(artefacts: Artefacts) -> Path:
    """Return the smallest Chinese-CLIP checkpoint with the published vocabulary. Do not change its files."""
    from tests.support.repositories import minimal_checkpoint

    return minimal_checkpoint(artefacts)


@pytest.fixture(scope="session")
def built(artefacts: Artefacts) -> Built:
    """Return a function that builds the repository of the small checkpoint. Do not change the files of its results."""
    from tests.support.repositories import Built

    return Built(artefacts)


@pytest.fixture(scope="session")
def repository(built: Built) -> Path:
    """Return the repository of the small checkpoint, built with default options. Do not change its files."""
    return built()


@pytest.fixture(scope="session")
def servers() -> Iterator[SharedServers]:
    """Yield the servers that all tests of this pytest worker share."""
    from tests.support.servers import shared_servers

    with shared_servers() as running:
        yield running


@pytest.fixture
def server(servers: SharedServers, repository: Path) -> RecordedServer:
    """Return the running tritonserver that serves the repository of the small checkpoint."""
    return servers.on(repository)


@pytest.fixture
def client(server: RecordedServer) -> Iterator[Client]:
    """Yield a client of the running server."""
    from tuwen import Client

    with Client(server.grpc_url) as connected:
        yield connected


@pytest.fixture(scope="session")
def originals(artefacts: Artefacts) -> Iterator[Originals]:
    """Yield the original implementations, cn_clip and open_clip. An interpreter starts if a result is not cached."""
    from tests.support.originals import originals_of

    with originals_of(artefacts) as running:
        yield running
