"""Fixtures and rules for all tests: cached artefacts, shared servers, and a second try after known server trouble.

Nothing here imports torch or tritonserver's packages before a test asks for them: see ``tests/README.md``.
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

# A shell that starts pytest in the background lets it ignore Ctrl-C; the programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

_TIERS = ("unit", "contract", "service", "system")
_STARTED = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--artefacts",
        type=Path,
        default=CACHE / "artefacts",
        help="folder in which checkpoints and built repositories are kept between runs",
    )
    parser.addoption(
        "--every-library",
        action="store_true",
        help="fail, instead of skipping a test, where a library of the full environment is missing",
    )
    parser.addoption("--pictures", type=int, default=80, help="number of pictures in the test of lost sources")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Send the messages of pytest-rerunfailures (16.7) at once.

    Its workers send two small messages for each test, and the second message waits 40 ms for a delayed acknowledgement
    of the first one: with 2,300 short tests that is most of the time.
    """
    connection = getattr(getattr(config, "failures_db", None), "sock", None)
    if connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say once which PyTorch backend the servers run and which libraries are missing, so that no lane is silent."""
    return [lane_header(os.environ), *light_header(every_library=config.getoption("every_library"))]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip a module that imports a missing library of the full environment, unless every library must be there."""
    report = yield
    return report if collector.config.getoption("every_library") else without_library(report, collector.path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the marker of its folder, unless a contract test or one of its parameters names its own tier."""
    for item in items:
        tier = item.path.relative_to(Path(__file__).parent).parts[0]
        assert tier in _TIERS, f"{item.nodeid} lies in none of the folders {', '.join(_TIERS)}"
        if item.get_closest_marker("service") is None and item.get_closest_marker("system") is None:
            item.add_marker(tier)
        if item.get_closest_marker("our_backend") is not None and runs_in_lane(os.environ):
            item.add_marker(pytest.mark.skip(reason="tests what only our own PyTorch backend does"))


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

    ``--only-rerun`` in pyproject.toml runs such a test once more, with a new server, and pytest counts it as rerun.
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
    """Fail a module whose tests leave a thread running that would keep the interpreter from ending."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if not thread.daemon]
    for thread in left:
        thread.join(10)
    assert not [thread for thread in left if thread.is_alive()]


@pytest.fixture(scope="session")
def artefacts(pytestconfig: pytest.Config) -> Artefacts:
    """The cache of checkpoints and built repositories."""
    return Artefacts(pytestconfig.getoption("artefacts").absolute())


@pytest.fixture(scope="session")
def checkpoint(artefacts: Artefacts) -> Path:
    """A small seeded Chinese-CLIP checkpoint. Do not change its files."""
    from tests.support.repositories import tiny_checkpoint

    return tiny_checkpoint(artefacts)


@pytest.fixture(scope="session")
def minimal_checkpoint(artefacts: Artefacts) -> Path:
    """A Chinese-CLIP checkpoint as small as one can be, with the published vocabulary. Do not change its files."""
    from tests.support.repositories import minimal_checkpoint

    return minimal_checkpoint(artefacts)


@pytest.fixture(scope="session")
def built(artefacts: Artefacts) -> Built:
    """A function that returns the repository of the small checkpoint, built with given options. Do not change it."""
    from tests.support.repositories import Built

    return Built(artefacts)


@pytest.fixture(scope="session")
def repository(built: Built) -> Path:
    """The repository of the small checkpoint, built with default options. Do not change its files."""
    return built()


@pytest.fixture(scope="session")
def servers() -> Iterator[SharedServers]:
    """The running servers of this worker."""
    from tests.support.servers import shared_servers

    with shared_servers() as running:
        yield running


@pytest.fixture
def server(servers: SharedServers, repository: Path) -> RecordedServer:
    """The real tritonserver on the repository of the small checkpoint."""
    return servers.on(repository)


@pytest.fixture
def client(server: RecordedServer) -> Iterator[Client]:
    """A client of the running server."""
    from tuwen import Client

    with Client(server.grpc_url) as connected:
        yield connected


@pytest.fixture(scope="session")
def originals(artefacts: Artefacts) -> Iterator[Originals]:
    """The original implementations (cn_clip, open_clip). Their interpreters start if a result is not in the cache."""
    from tests.support.originals import originals_of

    with originals_of(artefacts) as running:
        yield running
