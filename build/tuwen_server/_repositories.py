"""The repositories of one server: find them, check them, and lay them out for Triton."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from tuwen import InvalidArgumentError, TuwenError
from tuwen_repository.configs import read_config
from tuwen_repository.errors import NotARepositoryError
from tuwen_repository.int8_kernels import int8_obstacle
from tuwen_repository.manifest import MANIFEST, Manifest
from tuwen_server._overlay import Overlay
from tuwen_server.errors import UnsupportedPlatformError

__all__ = ["Repositories", "Repository"]


@dataclass(frozen=True)
class Repository:
    """A built repository in a folder.

    Attributes:
        folder: the folder that the build wrote.
        manifest: the record of the build.
        stamp: a value that changes if another build replaces the folder.
    """

    folder: Path
    manifest: Manifest
    stamp: tuple[int, ...]

    @classmethod
    def read(cls, folder: Path) -> Repository:
        """Read the manifest of a repository.

        Raises:
            NotARepositoryError: the folder is not a repository that `tuwen build` made.
        """
        stamp = _stamp(folder)  # before the manifest, so that a change in between shows later
        return cls(folder, Manifest.read(folder), stamp)

    def check(self, *, files: bool) -> None:
        """Check that this machine can serve the repository.

        Args:
            files: whether to compare the files with the built files.

        Raises:
            DamagedRepositoryError: files differ from the built files.
            UnsupportedPlatformError: the repository has precision int8, and this machine computes int8 slowly.
        """
        if files:
            self.manifest.check(self.folder)
        if self.manifest.precision == "int8" and (obstacle := int8_obstacle()) is not None:
            raise UnsupportedPlatformError(f"cannot serve {self.folder} with precision int8: {obstacle}")

    def weights(self) -> int:
        """Return the total size of the encoders' files in bytes. A server holds each file in memory at least once."""
        return sum(path.stat().st_size for path in self.folder.glob("*/1/model.pt"))

    def processes(self) -> int:
        """Return the number of Python processes that serve the repository: one for each instance of a model."""
        configs = map(read_config, self.folder.glob("*/config.pbtxt"))
        served = [config for config in configs if config.platform != "ensemble"]
        return sum(sum(group.count for group in config.instance_group) or 1 for config in served)


class Repositories:
    """The repositories of one server.

    Args:
        folders: the folders of repositories, or folders that hold repositories.
        check_files: whether files are compared with the built files.
    """

    def __init__(self, folders: Sequence[Path], *, check_files: bool) -> None:
        if not folders:
            raise InvalidArgumentError("expected the folder of at least one repository")
        self._folders = [folder.expanduser().absolute() for folder in folders]
        self._check_files = check_files
        self._laid: dict[Path, Repository] = {}
        self._reported: dict[Path, str] = {}

    @property
    def names(self) -> set[str]:
        """The names of the repositories that were laid out."""
        return {repository.manifest.name for repository in self._laid.values()}

    def checked(self) -> list[Repository]:
        """Check all repositories, and return them.

        Raises:
            InvalidArgumentError: two repositories have the same name.
            RepositoryError, UnsupportedPlatformError: a repository cannot be served.
        """
        found = [Repository.read(folder) for folder in self._repository_folders()]
        _check_names(found)
        for repository in found:
            repository.check(files=self._check_files)
        return found

    def lay_out(self, repositories: Sequence[Repository], overlay: Overlay) -> None:
        """Lay out repositories at the start of a server."""
        self._laid, self._reported = {}, {}
        for repository in repositories:
            overlay.add(repository.folder)
            self._laid[repository.folder] = repository

    def refresh(self, overlay: Overlay, names_in_use: Callable[[], Collection[str]]) -> list[str]:
        """Lay out new and replaced repositories, so that they can be loaded.

        While the models of the old build are loaded, the new build of a repository is not laid out. Triton may reload
        one of these models at any time, and all models must come from one build.

        Args:
            overlay: the folder in which the server finds its models.
            names_in_use: a function that returns the names of the repositories whose models are loaded.

        Returns:
            A sentence for each new or replaced repository, and for each repository that cannot be served.
        """
        said = []
        for folder in self._repository_folders():
            laid = self._laid.get(folder)
            try:
                if laid is not None and laid.stamp == _stamp(folder):
                    continue
                repository = Repository.read(folder)
                name = repository.manifest.name
                others = [Repository.read(other) for other in self._laid if other != folder and other.is_dir()]
                _check_names([*others, repository])
                if laid is not None and name in names_in_use():
                    raise InvalidArgumentError(
                        "the folder has a new build, and the old build is still loaded; "
                        f"run: tuwen models unload {name}"
                    )
                repository.check(files=self._check_files)
                overlay.add(folder)
            except (TuwenError, OSError, HTTPException, ValueError) as error:
                # It may be incomplete, because somebody copies it now: it is tried again, and reported once.
                if self._reported.get(folder) != str(error):
                    self._reported[folder] = str(error)
                    said.append(f"cannot serve {folder} yet: {error}")
                continue
            self._laid[folder] = repository
            self._reported.pop(folder, None)
            what = "found" if laid is None else "replaced"
            said.append(f"{what} {folder}; load it with: tuwen models load {name}".rstrip())
        return said

    def _repository_folders(self) -> list[Path]:
        """Return the folders of all repositories. A folder without a manifest may hold repositories."""
        found = []
        for folder in self._folders:
            inside = [] if _is_repository(folder) else sorted(filter(_is_repository, _entries(folder)))
            found += inside or [folder]
        return list(dict.fromkeys(found))


def _is_repository(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # the error says more when the manifest is read
        return []


def _stamp(folder: Path) -> tuple[int, ...]:
    try:
        found = (folder / MANIFEST).stat()
    except OSError:
        raise NotARepositoryError(
            f"{folder} is not a built repository: {MANIFEST} is missing. Build one with: "
            f"tuwen build CHECKPOINT --output {folder}"
        ) from None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _check_names(repositories: Sequence[Repository]) -> None:
    """Check that the names of the repositories differ, because the names of Triton models begin with them.

    Raises:
        InvalidArgumentError: two repositories have the same name, or two repositories have no name.
    """
    known: dict[str, Path] = {}
    for repository in repositories:
        name = repository.manifest.name
        if name in known:
            both = f"{known[name]} and {repository.folder}"
            why = f"{both} both have the name {name!r}" if name else f"{both} have no name"
            raise InvalidArgumentError(
                f"cannot serve two repositories whose models have the same names: {why}; build one of them again with "
                "tuwen build --name NAME"
            )
        known[name] = repository.folder
