"""Removing the temporary folder and the shared-memory segments of a server whose owner dies.

The owner is the process that started the server. A killed process cannot clean up, so each server has a guard: a
process that waits for the owner's death. This file is also the guard's program. It imports only the standard library,
so that it starts fast.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Belongings", "guarded_folder", "remove_leftovers"]

_SHARED_MEMORY = Path("/dev/shm")
_PROC = Path("/proc")
_OWNER = ".owner"
_PREFIX = re.compile(r"tuwen-\d+-[0-9a-f]{8}-")
_END_SECONDS = 5.0
_POLL_SECONDS = 0.05
_PARENT_SECONDS = 1.0  # seconds between two checks of the owner; usually the end of its pipe is noticed at once
_DONE = b"."


class Belongings:
    """The temporary folder and the shared-memory segments of one server.

    The file ``.owner`` in the folder holds the prefix of the segments. The file is locked as long as the owner lives.
    """

    def __init__(self) -> None:
        """Create the folder.

        Raises:
            OSError: the folder for temporary files cannot be written.
        """
        self.prefix = f"tuwen-{os.getpid()}-{uuid.uuid4().hex[:8]}-"
        self.folder = Path(tempfile.mkdtemp(prefix="tuwen-server-"))
        self._guard: subprocess.Popen[bytes] | None = None
        draft = self.folder / f"{_OWNER}.new"
        self._lock = os.open(draft, os.O_RDWR | os.O_CREAT, 0o600)
        os.write(self._lock, self.prefix.encode())
        _lock(self._lock)
        draft.rename(self.folder / _OWNER)

    def guard(self) -> None:
        """Start the guard process, which removes the server's folder and segments when this process dies.

        Raises:
            OSError: the process cannot be started.
        """
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(self.folder), self.prefix, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C and a closed terminal must not end the guard
        )

    def remove(self) -> list[str]:
        """Remove the folder and the segments of a server that has ended, and end the guard.

        Returns:
            Sentences for the log about everything that could not be removed.
        """
        failures = _remove(self.folder, self.prefix)
        if self._guard is not None and self._guard.stdin is not None:
            try:
                self._guard.stdin.write(_DONE)
                self._guard.stdin.close()
            except BrokenPipeError:
                failures.append("the process that guards the server had ended")
            self._guard.wait()
            self._guard = None
        os.close(self._lock)
        return failures


@contextmanager
def guarded_folder() -> Iterator[Path]:
    """Provide an empty temporary folder that is removed after the block, even if this process is killed meanwhile.

    Raises:
        OSError: the folder for temporary files cannot be written, or the guard cannot be started.
    """
    belongings = Belongings()
    try:
        belongings.guard()
        folder = belongings.folder / "content"
        folder.mkdir()
        yield folder
    finally:
        for failure in belongings.remove():
            warnings.warn(failure, RuntimeWarning, stacklevel=3)


def remove_leftovers() -> list[str]:
    """Remove the files that dead owners and dead guards left in the folder for temporary files.

    Returns:
        Sentences for the log about everything that was found or could not be removed.
    """
    found = []
    for folder in Path(tempfile.gettempdir()).glob("tuwen-server-*"):
        prefix = _prefix_of_the_dead(folder)
        if prefix:
            found.append(f"removing {folder}, left by a server whose owner died")
            _end_processes(folder, prefix)
            found += _remove(folder, prefix)
    return found


def _prefix_of_the_dead(folder: Path) -> str | None:
    """Return the prefix of the shared-memory segments if the owner of the folder is dead; None: the owner lives.

    The owner of another user's folder counts as alive.
    """
    try:
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            return None
        descriptor = os.open(folder / _OWNER, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:  # not a folder of a server, or removed in the meantime
        return None
    try:
        _lock(descriptor)
        prefix = os.read(descriptor, 100).decode("ascii", errors="replace")
    except OSError:  # the owner lives
        return None
    finally:
        os.close(descriptor)
    return prefix if _PREFIX.fullmatch(prefix) else None


def _lock(descriptor: int) -> None:
    import fcntl  # noqa: PLC0415 - Windows lacks it, where no server is started

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove(folder: Path, prefix: str) -> list[str]:
    failures = []
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        failures.append(f"cannot remove {folder}: {error}")
    for segment in _SHARED_MEMORY.glob(f"{prefix}*"):
        try:
            segment.unlink(missing_ok=True)
        except OSError as error:
            failures.append(f"cannot remove {segment}: {error}")
    return failures


def _end_processes(folder: Path, prefix: str) -> None:
    """Kill tritonserver and its stubs, and wait until they have ended."""
    deadline = time.monotonic() + _END_SECONDS
    while (processes := _processes(folder, prefix)) and time.monotonic() < deadline:
        for process in processes:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it has ended in the meantime
        time.sleep(_POLL_SECONDS)


def _processes(folder: Path, prefix: str) -> list[int]:
    """Return the processes of a server.

    tritonserver is recognised by the prefix of the shared memory among its arguments. A stub is recognised by its
    program, which lies in the server's temporary folder.
    """
    argument, program = f"shm-region-prefix-name={prefix}".encode(), f"{folder}/".encode()
    found = []
    for status in _PROC.glob("[0-9]*/cmdline"):
        try:
            command = status.read_bytes()
        except OSError:  # it has ended in the meantime
            continue
        if argument in command or command.startswith(program):
            found.append(int(status.parent.name))
    return found


def _watch(folder: Path, prefix: str, parent: int) -> None:
    """Wait until the owner dies, then remove the server's files. End early if the owner reports their removal."""
    while os.getppid() == parent:  # a forked child of the owner can keep the pipe open after the owner's death
        if select.select([0], [], [], _PARENT_SECONDS)[0]:
            if os.read(0, 1) == _DONE:
                return
            break
    _end_processes(folder, prefix)
    _remove(folder, prefix)


if __name__ == "__main__":
    _watch(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
