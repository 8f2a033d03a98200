"""``manifest.json``: what a repository was built from, with what, and how far it is from the reference."""

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

__all__ = ["MANIFEST", "Manifest", "library_versions"]

MANIFEST = "manifest.json"
_OF_THE_SYSTEM = ("__pycache__", "lost+found")  # Python and file systems make these folders by themselves
_LIBRARIES = ("tuwen", "torch", "transformers", "tokenizers", "pillow", "numpy", "safetensors", "tritonclient")


@dataclass(frozen=True, kw_only=True)
class Manifest(ModelCard):
    """The record of one build: the model card of the repository, and how the repository was made.

    Attributes:
        text_rules: the rules of the tokenization.
        image_deviation, text_deviation: measured when the repository was built, against the float32 reference.
        versions: the versions of the libraries that shaped the build, by name.
        sources: sha256 of the checkpoint's files, by name.
        files: sha256 of the repository's files, by path.
        gpu_environment: the environment variables that a server needs on a GPU, so that it computes the vectors that
            were verified. `tuwen serve`, the images and the chart set them. Empty in manifests of earlier versions.
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
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read ``manifest.json``.

        Raises:
            NotARepositoryError: it is missing or not one.
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
                f"{folder} is not a built repository: it has no {MANIFEST}. Build one with: "
                f"tuwen build CHECKPOINT --output {folder}"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise NotARepositoryError(f"{path} is not the manifest of a build: {error}") from error

    def check(self, folder: Path) -> None:
        """Check that the files are those that were built, but for the configs, which are the operator's to edit.

        A weight that a bad copy changed would give vectors that are wrong and look right, and so would the version
        folder of another build, which Triton prefers to the version that was built. The folders ``__pycache__`` and
        ``lost+found`` are allowed.

        Raises:
            DamagedRepositoryError: files are missing, changed or not part of the build; names them.
        """
        damaged = []
        for name, digest in self.files.items():
            path = folder / name
            if not path.is_file():
                damaged.append(f"{name} is missing")
            elif path.name != "config.pbtxt" and sha256_of(path) != digest:
                damaged.append(f"{name} is not what was built")
        added = [f"{name} was added" for name in _unlisted(folder, {MANIFEST, *self.files})]
        if damaged:
            raise DamagedRepositoryError(
                f"{folder} is damaged: {'; '.join(damaged + added)}. Copy it again, or build it anew with tuwen build "
                "--force"
            )
        if added:
            raise DamagedRepositoryError(
                f"{folder} holds what its build did not write: {'; '.join(added)}. Move it elsewhere, or build the "
                "repository anew with tuwen build --force"
            )


def _unlisted(folder: Path, listed: Collection[str]) -> list[str]:
    """Return the files of a repository that are not listed, and the folders of such files.

    Empty folders are left out: ensembles have an empty version folder.
    """
    parents = {parent for name in listed for parent in PurePosixPath(name).parents}
    found = []
    for parent in sorted(parents):
        if (folder / parent).is_dir():  # listed files that are missing are told of elsewhere
            for path in sorted((folder / parent).iterdir()):
                name = parent / path.name
                known = name in parents or str(name) in listed or path.name in _OF_THE_SYSTEM
                if not known and not (path.is_dir() and not any(path.iterdir())):
                    found.append(str(name))
    return found


def library_versions() -> dict[str, str]:
    """The versions of everything that shaped the build."""
    return {name: metadata.version(name) for name in _LIBRARIES}
