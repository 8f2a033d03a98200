"""An output folder that appears complete or not at all, and never replaces files of other programs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuwen_build.errors import BuildError, OutputExistsError
from tuwen_files.disk_space import full_disk_named, os_reason

__all__ = ["OutputFolder"]


class _NotPutBackError(Exception):
    """An earlier output could not be put back in its place."""


@dataclass(frozen=True)
class OutputFolder:
    """An output folder of a command. An earlier output is recognised by a file that only this command writes.

    Attributes:
        path: the folder.
        marker: the name of the file in the folder by which an earlier output is recognised, such as ``manifest.json``.
        force: whether an earlier output may be replaced. A folder without the marker is never replaced.
    """

    path: Path
    marker: str
    force: bool = False

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """Provide an empty folder beside the output. It takes the output's place if the block ends without an error.

        The output is checked before the block and again after it, because a block may take hours.

        Raises:
            OutputExistsError: the output is a file, a symbolic link or a mount point. The same error is raised for a
                folder with other files, for an earlier output if `force` is off, and for an output that another
                process changed during the block.
            DiskFullError: the disk became full. An earlier output is unchanged.
            BuildError: the output cannot be written. An earlier output is unchanged. If the earlier output could not
                be put back, the message names the folder that holds it.
        """
        before = self.check()
        try:
            self._output.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=f".{self._output.name}.making-", dir=self._output.parent))
        except OSError as error:
            raise BuildError(f"cannot write to '{self._output.parent}': {os_reason(error)}") from error
        replaced, is_kept = scratch / "replaced", False
        try:
            staged = scratch / self._output.name
            staged.mkdir()
            with full_disk_named(self._output):
                yield staged
            if self.check() != before:
                raise OutputExistsError(
                    f"'{self._output}' was changed by another process in the meantime and was not replaced; "
                    "choose another output"
                )
            self._swap(staged, replaced)
        except _NotPutBackError as error:
            is_kept = True
            raise BuildError(
                f"cannot write '{self._output}' ({error}), and the earlier output could not be put back: it is in "
                f"'{replaced}'; move it from there"
            ) from error
        except OSError as error:
            raise BuildError(f"cannot write '{self._output}': {os_reason(error)}") from error
        finally:
            if not is_kept:
                shutil.rmtree(scratch, ignore_errors=True)

    def check(self) -> tuple[int, int] | None:
        """Return the identity of the earlier output (inode and change time of its marker); None: no earlier output.

        Raises:
            OutputExistsError: the output may not be replaced.
        """
        output = self._output
        if output.is_symlink():
            raise OutputExistsError(f"'{output}' is a symbolic link; name the folder '{output.resolve()}' itself")
        if not output.exists():
            return None
        if not output.is_dir():
            raise OutputExistsError(f"'{output}' is a file; choose another output")
        if output.is_mount():
            raise OutputExistsError(f"'{output}' is a mount point and cannot be replaced; choose a folder inside it")
        if not any(output.iterdir()):
            return None
        marker = output / self.marker
        if not marker.is_file():
            raise OutputExistsError(
                f"'{output}' is not empty and is not an earlier output of this command ({self.marker} is missing); "
                "it was not changed, choose another output"
            )
        if not self.force:
            raise OutputExistsError(f"'{output}' holds an earlier output; --force replaces it")
        status = marker.stat()
        return status.st_ino, status.st_mtime_ns

    @property
    def _output(self) -> Path:
        return self.path.expanduser().absolute()

    def _swap(self, staged: Path, replaced: Path) -> None:
        """Let the staged folder take the output's place; if that fails, put the earlier output back."""
        earlier = self._output.exists()
        if earlier:
            self._output.rename(replaced)
        try:
            staged.rename(self._output)
        except OSError as error:
            if earlier:
                try:
                    replaced.rename(self._output)
                except OSError:
                    raise _NotPutBackError(error.strerror or error) from error
            raise
