"""The sources of the pictures and words: npm packages of fixed versions, with their licences."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tuwen_build.errors import BuildError
from tuwen_files.disk_space import is_disk_full, os_reason

__all__ = ["LABELS", "SOURCES", "Package", "Source", "fetch", "is_cached"]

Split = Literal["train", "valid", "test", "test_openmoji"]


@dataclass(frozen=True)
class Package:
    """An npm package of a fixed version."""

    name: str
    version: str

    @property
    def spec(self) -> str:
        """The package and its version in npm's notation, ``name@version``."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Source:
    """One maker's artwork.

    Attributes:
        split: the split of the maker's pictures. All pictures of a maker are in one split.
        licence: the SPDX identifier of the artwork's licence.
        attribution: the name to credit.
    """

    package: Package
    split: Split
    licence: str
    attribution: str

    @property
    def name(self) -> str:
        """A short name for files and messages."""
        return self.package.name.rpartition("/")[2]


LABELS = Package("emojibase-data", "17.0.0")
"""Unicode CLDR's names and keywords in Chinese, MIT."""

SOURCES = (
    Source(Package("@iconify-json/noto", "1.2.9"), "train", "Apache-2.0", "Noto Emoji, Google"),
    Source(Package("@iconify-json/noto-v1", "1.2.5"), "train", "Apache-2.0", "Noto Emoji v1 (blobs), Google"),
    Source(Package("@iconify-json/fluent-emoji", "1.2.7"), "train", "MIT", "Fluent Emoji, Microsoft"),
    Source(Package("@iconify-json/fluent-emoji-flat", "1.2.6"), "train", "MIT", "Fluent Emoji (flat), Microsoft"),
    Source(
        Package("@iconify-json/fluent-emoji-high-contrast", "1.2.6"), "train", "MIT", "Fluent Emoji (line), Microsoft"
    ),
    Source(Package("@lobehub/fluent-emoji-3d", "1.1.0"), "train", "MIT", "Fluent Emoji (3D), Microsoft"),
    Source(Package("@iconify-json/emojione", "1.2.3"), "train", "CC-BY-4.0", "EmojiOne 2 (EmojiTwo)"),
    Source(Package("@iconify-json/emojione-monotone", "1.2.1"), "train", "CC-BY-4.0", "EmojiOne (monotone)"),
    Source(Package("@iconify-json/fxemoji", "1.2.2"), "valid", "CC-BY-4.0", "Firefox OS Emoji, Mozilla"),
    Source(Package("@iconify-json/twemoji", "1.2.5"), "test", "CC-BY-4.0", "Twemoji, Twitter and contributors"),
    Source(Package("@iconify-json/openmoji", "1.2.29"), "test_openmoji", "CC-BY-SA-4.0", "OpenMoji, HfG Gmünd"),
)


def is_cached(package: Package, cache: Path) -> bool:
    """Return whether the cache holds a package."""
    return _folder(package, cache).is_dir()


def _folder(package: Package, cache: Path) -> Path:
    return cache / f"{package.name.replace('/', '-').lstrip('@')}-{package.version}"


def fetch(package: Package, cache: Path) -> Path:
    """Return the folder of an unpacked package. If the cache lacks the package, ``npm pack`` fetches it.

    Raises:
        BuildError: npm is missing or fails, or the archive is not a package.
    """
    folder = _folder(package, cache)
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        command = ["npm", "pack", package.spec, "--pack-destination", scratch, "--loglevel", "error"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        except FileNotFoundError:
            raise BuildError("fetching the artwork needs npm, which comes with Node.js (nodejs.org)") from None
        except subprocess.TimeoutExpired:
            raise BuildError(f"npm did not fetch {package.spec} within ten minutes") from None
        except subprocess.CalledProcessError as error:
            reason = os_reason(OSError(error.stderr.strip()))
            raise BuildError(f"npm cannot fetch {package.spec}: {reason}") from error
        unpacked = Path(scratch) / "unpacked"
        try:
            with tarfile.open(next(Path(scratch).glob("*.tgz"))) as archive:
                archive.extractall(unpacked, filter="data")
            (unpacked / "package").rename(folder)
        except (tarfile.TarError, OSError, StopIteration) as error:
            if is_disk_full(error):
                raise BuildError(f"cannot write '{folder}': {os_reason(error)}") from error
            raise BuildError(f"npm fetched an archive for {package.spec} that is not a package: {error}") from error
    return folder
