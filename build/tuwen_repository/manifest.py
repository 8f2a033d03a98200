"""``manifest.json``: the sources, versions and files of a built repository, and its difference from the reference."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from tuwen import ModelCard
from tuwen_repository.checksums import sha256_of
from tuwen_repository.deviation import Deviation
from tuwen_repository.errors import DamagedRepositoryError, NotARepositoryError
from tuwen_repository.text_files import replace_text

__all__ = ["MANIFEST", "Manifest", "library_versions"]

MANIFEST = "manifest.json"
_OF_THE_SYSTEM = ("__pycache__", "lost+found")  # Python and file systems create these folders
_LIBRARIES = ("tuwen", "torch", "transformers", "tokenizers", "pillow", "numpy", "safetensors", "tritonclient")


@dataclass(frozen=True, kw_only=True)
class Manifest(ModelCard):
    """The record of one build: the model card of the repository, and how the repository was made.

    Attributes:
        text_rules: the rules of the tokenization.
        image_deviation, text_deviation: the difference from the float32 reference, measured during the build.
        versions: the versions of the libraries that the build used, by name.
        sources: the sha256 of the checkpoint's files, by name.
        files: the sha256 of the repository's files, by path.
        gpu_environment: the environment variables with which a server on a GPU computes the verified vectors. `tuwen
            serve`, the images and the chart set them. Empty in manifests that earlier versions of tuwen wrote.
    """

    text_rules: str
    image_deviation: Deviation
    text_deviation: Deviation
    versions: dict[str, str]
    sources: dict[str, str]
    files: dict[str, str]
    gpu_environment: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write ``manifest.json``."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        replace_text(folder / MANIFEST, text + "\n")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read ``manifest.json``.

        Raises:
            NotARepositoryError: the file is missing or is not a manifest.
        """
        path = folder / MANIFEST
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            for name in ("image_deviation", "text_deviation"):
                content[name] = Deviation(**content[name])
            # Manifests of builds on Windows separate folders with backslashes; on Linux a backslash is part of a name.
            content["files"] = {path.replace("\\", "/"): digest for path, digest in content["files"].items()}
            return cls(**content)
        except OSError:
            raise NotARepositoryError(
                f"{folder} is not a built repository: {MANIFEST} is missing. Build one with: "
                f"tuwen build CHECKPOINT --output {folder}"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise NotARepositoryError(f"{path} is not the manifest of a build: {error}") from error

    def check(self, folder: Path) -> None:
        """Check that the files equal the built files. Configs are not checked, because operators may edit them.

        A damaged weight would give vectors that are wrong but look right. So would an additional version folder, if
        Triton prefers it to the built version. The folders ``__pycache__`` and ``lost+found`` are allowed.

        Raises:
            DamagedRepositoryError: files are missing, changed or not part of the build. The message names them.
        """
        damaged = []
        for name, digest in self.files.items():
            path = folder / name
            if not path.is_file():
                damaged.append(f"{name} is missing")
            elif path.name != "config.pbtxt" and sha256_of(path) != digest:
                damaged.append(f"{name} differs from the built file")
        added = [f"{name} was added" for name in _unlisted(folder, {MANIFEST, *self.files})]
        if damaged:
            raise DamagedRepositoryError(
                f"{folder} is damaged: {'; '.join(damaged + added)}. Copy it again, or build it anew with tuwen build "
                "--force"
            )
        if added:
            raise DamagedRepositoryError(
                f"{folder} holds files that its build did not write: {'; '.join(added)}. Move these files elsewhere, "
                "or build the repository anew with tuwen build --force"
            )


def _unlisted(folder: Path, listed: Collection[str]) -> list[str]:
    """Return the files of a repository that the manifest does not list, and the folders of such files.

    Empty folders are left out: ensembles have an empty version folder.
    """
    parents = {parent for name in listed for parent in PurePosixPath(name).parents}
    found = []
    for parent in sorted(parents):
        if (folder / parent).is_dir():  # missing files are reported separately
            for path in sorted((folder / parent).iterdir()):
                name = parent / path.name
                known = name in parents or str(name) in listed or path.name in _OF_THE_SYSTEM
                if not known and not (path.is_dir() and not any(path.iterdir())):
                    found.append(str(name))
    return found


def library_versions() -> dict[str, str]:
    """Return the versions of everything that can change the result of a build."""
    return {name: metadata.version(name) for name in _LIBRARIES}
