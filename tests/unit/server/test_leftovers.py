"""The folder and shared memory of a server are removed if its owner died, and kept while the owner lives."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.command import started, wait_until
from tests.support.stand_in import StandIn
from tuwen_server import EmbeddedServer, guarded_folder
from tuwen_server._leftovers import Belongings, remove_leftovers

SHARED_MEMORY = Path("/dev/shm")

pytestmark = pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="the embedded server runs on Linux only")


@pytest.fixture
def segment() -> Iterator[Path]:
    """A shared-memory segment of a server that does not run."""
    path = SHARED_MEMORY / f"tuwen-1-{uuid.uuid4().hex[:8]}-0"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def leave_folder(scratch: Path, prefix: str) -> Path:
    """Make a folder like that of a server whose owner and guard were killed."""
    folder = scratch / "tuwen-server-dead"
    folder.mkdir()
    (folder / ".owner").write_text(prefix, encoding="utf-8")
    return folder


def test_removes_the_folder_the_segments_and_the_processes_of_a_dead_owner(scratch: Path, segment: Path) -> None:
    folder = leave_folder(scratch, segment.name[:-1])
    stub = folder / "stub"
    stub.symlink_to("/bin/sleep")
    with subprocess.Popen([stub, "600"]) as process:
        # for a moment after the start, /proc does not show the new program's arguments yet
        wait_until(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(bytes(stub)), running=process)
        lines = remove_leftovers()
    assert process.returncode == -9
    assert not folder.exists()
    assert not segment.exists()
    assert lines == [f"removing {folder}, left by a server whose owner died"]


def test_leaves_the_belongings_of_a_living_owner(scratch: Path) -> None:
    belongings = Belongings()
    assert remove_leftovers() == []
    assert belongings.folder.is_dir()
    assert belongings.folder.parent == scratch
    assert belongings.remove() == []
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("prefix", ["", "*", "../", "tuwen-", "tuwen-1-00000000"])
def test_leaves_folders_whose_prefix_no_server_wrote(scratch: Path, segment: Path, prefix: str) -> None:
    folder = leave_folder(scratch, prefix)
    assert remove_leftovers() == []
    assert folder.exists()
    assert segment.exists()


def test_leaves_links_and_folders_without_an_owner(scratch: Path, tmp_path: Path) -> None:
    (scratch / "tuwen-server-other").mkdir()
    (scratch / "tuwen-server-link").symlink_to(tmp_path)
    assert remove_leftovers() == []
    assert len(list(scratch.iterdir())) == 2


def test_a_start_removes_leftovers_and_says_so(
    make_server: Callable[..., EmbeddedServer], stand_in: StandIn, scratch: Path, segment: Path
) -> None:
    folder = leave_folder(scratch, segment.name[:-1])
    lines: list[str] = []
    make_server(on_log_line=lines.append).start()
    assert not folder.exists()
    assert any(str(folder) in line for line in lines)
    assert stand_in.events() == ["started"]


def test_reports_what_cannot_be_removed(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    def refuse(_: Path) -> None:
        raise PermissionError("no")

    belongings = Belongings()
    monkeypatch.setattr("shutil.rmtree", refuse)
    assert belongings.remove() == [f"cannot remove {belongings.folder}: no"]


def test_the_guard_removes_nothing_that_its_owner_has_removed(scratch: Path) -> None:
    belongings = Belongings()
    belongings.guard()
    assert belongings.remove() == []
    belongings.folder.mkdir()  # somebody else's by now
    assert os.listdir(scratch) == [belongings.folder.name]


class TestGuardedFolder:
    def test_a_guarded_folder_is_removed_after_the_block(self, scratch: Path) -> None:
        with guarded_folder() as folder:
            assert list(folder.iterdir()) == []
            (folder / "file").touch()
        assert list(scratch.iterdir()) == []

    def test_a_guarded_folder_is_removed_when_its_process_is_killed(self, scratch: Path) -> None:
        program = (
            "from tuwen_server import guarded_folder\n"
            "with guarded_folder() as folder:\n"
            "    (folder / 'file').touch()\n"
            "    print(folder, flush=True)\n"
            "    input()\n"
        )
        environment = {**os.environ, "TMPDIR": str(scratch)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with started([sys.executable, "-c", program], env=environment, **pipes) as process:
            folder = Path(process.stdout.readline().strip())
            assert (folder / "file").is_file()
            process.kill()
            wait_until(lambda: not list(scratch.iterdir()))

    def test_warns_of_a_folder_that_cannot_be_removed(self, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(_: Path) -> None:
            raise PermissionError("no")

        with pytest.warns(RuntimeWarning, match="cannot remove .*: no"), guarded_folder():
            monkeypatch.setattr("shutil.rmtree", refuse)
