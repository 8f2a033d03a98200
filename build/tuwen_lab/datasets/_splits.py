"""Reading datasets from disk: Chinese-CLIP's retrieval splits, and folders of classes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tuwen import InvalidArgumentError
from tuwen_files.image_files import image_files
from tuwen_files.text_files import numbered_lines, read_lines
from tuwen_lab.datasets._rows import text_record

__all__ = ["ClassFolder", "ImagePlace", "RetrievalSplit"]

_UTF8_MARK = b"\xef\xbb\xbf"
_STANDARD_BASE64 = bytes.maketrans(b"-_", b"+/")  # from the URL-safe alphabet


@dataclass(frozen=True)
class ImagePlace:
    """The position of an image in ``{split}_imgs.tsv``: its line, and `length` bytes from `offset`."""

    image_id: int
    offset: int
    length: int
    line: int


@dataclass(frozen=True)
class RetrievalSplit:
    """A split of MUGE, Flickr30K-CN, COCO-CN or other data: ``{split}_imgs.tsv`` and ``{split}_texts.jsonl``.

    A line of the first file is an id, a tab and the image in base64 (standard or URL-safe). A line of the second file
    is ``{"text_id": 1, "text": "...", "image_ids": [7]}``. See "Preparing the dataset" in Chinese-CLIP's README.

    Attributes:
        skip_bad_rows: whether malformed lines, images with a repeated id, and texts without any readable image are
            skipped. `skipped` lists all skipped rows.
        skip_silent_images: whether `skip_bad_rows` also skips images that have no text. Training sets this.

    Raises:
        InvalidArgumentError: a file is missing. Methods also raise this error for a malformed line, unless
            `skip_bad_rows` is on.
    """

    folder: Path
    split: str = "test"
    skip_bad_rows: bool = False
    skip_silent_images: bool = False

    def __post_init__(self) -> None:
        for path in (self.images_file, self.texts_file):
            if not path.is_file():
                found = sorted(file.name.removesuffix("_texts.jsonl") for file in self.folder.glob("*_texts.jsonl"))
                hint = f"; splits here: {', '.join(found)}" if found else ""
                raise InvalidArgumentError(f"{path} is missing{hint}")

    @property
    def images_file(self) -> Path:
        """The file of the images."""
        return self.folder / f"{self.split}_imgs.tsv"

    @property
    def texts_file(self) -> Path:
        """The file of the texts, with the ids of the images that each text fits."""
        return self.folder / f"{self.split}_texts.jsonl"

    def images(self) -> Iterator[tuple[int, bytes]]:
        """Yield the id and the encoded bytes of each image."""
        for number, image_id, _, line in self._image_rows():
            yield image_id, self.decode_image(line, number)

    def image_places(self) -> list[ImagePlace]:
        """Return the position of every image in its file, for reading in any order."""
        silent = self._silent
        return [
            ImagePlace(image_id, offset, len(line), number)
            for number, image_id, offset, line in self._image_rows()
            if number not in silent
        ]

    def _image_rows(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield the line's number, the id, the line's offset and the line of each image.

        With `skip_bad_rows`, malformed lines and repeated ids are left out.

        Raises:
            InvalidArgumentError: a line has no id or a repeated id, and `skip_bad_rows` is off.
        """
        known: set[int] = set()
        for number, offset, line in self._image_lines():
            if self.skip_bad_rows:
                if number in self._good_lines:
                    yield number, self._good_lines[number], offset, line
                continue
            image_id = self._image_id(line, number)
            if image_id in known:
                raise InvalidArgumentError(self._known_before(image_id, number))
            known.add(image_id)
            yield number, image_id, offset, line

    def _image_lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield the number, the offset and the content of each line of the images file that is not blank."""
        offset = 0
        with self.images_file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, offset, line
                offset += len(line)

    def _known_before(self, image_id: int, number: int) -> str:
        return f"{self.images_file}, line {number}: the id {image_id} is repeated"

    @property
    def skipped(self) -> list[str]:
        """A sentence for each skipped row, with file, line and reason. Empty without `skip_bad_rows`."""
        if not self.skip_bad_rows:
            return []
        silent = [
            f"{self.images_file}, line {number}: no text fits the image {self._good_lines[number]}"
            for number in sorted(self._silent)
        ]
        return [*self._checked_images[1], *self._checked_records[1], *silent]

    @cached_property
    def _silent(self) -> set[int]:
        """Return the lines of the images to skip because they have no text."""
        if not (self.skip_bad_rows and self.skip_silent_images):
            return set()
        told = {image for record in self._records for image in record["image_ids"]}
        return {number for number, image in self._good_lines.items() if image not in told}

    @property
    def _good_lines(self) -> dict[int, int]:
        return self._checked_images[0]

    @cached_property
    def _checked_images(self) -> tuple[dict[int, int], list[str]]:
        """Return the ids of the images by line number, and the reasons why other lines are skipped."""
        ids: dict[int, int] = {}
        known: set[int] = set()
        skipped = []
        for number, _, line in self._image_lines():
            try:
                image_id = self._image_id(line, number)
                self.decode_image(line, number)
            except InvalidArgumentError as error:
                skipped.append(str(error))
                continue
            if image_id in known:
                skipped.append(self._known_before(image_id, number))
                continue
            known.add(image_id)
            ids[number] = image_id
        return ids, skipped

    def decode_image(self, line: bytes, number: int) -> bytes:
        """Return the encoded image of a line. The line's number is for the error message."""
        content = line.partition(b"\t")[2].strip().translate(_STANDARD_BASE64)
        try:
            return base64.b64decode(content, validate=True)
        except binascii.Error as error:
            raise InvalidArgumentError(f"{self.images_file}, line {number}: {error}") from error

    def _image_id(self, line: bytes, number: int) -> int:
        name, tab, _ = line.removeprefix(_UTF8_MARK if number == 1 else b"").partition(b"\t")
        try:
            if not tab:
                raise ValueError("expected a tab after the image's id")
            return int(name)
        except ValueError as error:
            raise InvalidArgumentError(
                f"{self.images_file}, line {number}: expected an integer, a tab and an image in base64, "
                f"got {line[:20]!r}; save the file as UTF-8 or ASCII"
            ) from error

    @property
    def _records(self) -> list[dict[str, Any]]:
        return self._checked_records[0]

    @cached_property
    def _checked_records(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the records of the texts, and the reasons why other lines are skipped.

        Raises:
            InvalidArgumentError: a line is malformed, and `skip_bad_rows` is off.
        """
        records: list[dict[str, Any]] = []
        skipped: list[str] = []
        known: set[int] = set()
        for number, line in numbered_lines(self.texts_file):
            if not line.strip():
                continue
            place = f"'{self.texts_file}', line {number}"
            try:
                record = text_record(line, place)
                if record["text_id"] in known:
                    raise InvalidArgumentError(f"{place}, field 'text_id': the id {record['text_id']} is repeated")
                if record["image_ids"]:
                    record["image_ids"] = self._present(record["image_ids"], place)
            except InvalidArgumentError as error:
                if not self.skip_bad_rows:
                    raise
                skipped.append(str(error))
                continue
            known.add(record["text_id"])
            records.append(record)
        return records, skipped

    def _present(self, image_ids: list[int], place: str) -> list[int]:
        """Return those of a text's image ids that the images file holds.

        Raises:
            InvalidArgumentError: `skip_bad_rows` is off and one of the images is missing, or it is on and all of them
                are missing.
        """
        left = [image for image in image_ids if image in self._image_ids]
        if self.skip_bad_rows and not left:
            raise InvalidArgumentError(
                f"{place}, field 'image_ids': cannot read any image of this text: {', '.join(map(str, image_ids[:3]))}"
            )
        if not self.skip_bad_rows and len(left) < len(image_ids):
            lacking = next(image for image in image_ids if image not in self._image_ids)
            raise InvalidArgumentError(f"{place}, field 'image_ids': '{self.images_file}' has no image {lacking}")
        return left

    @cached_property
    def _image_ids(self) -> set[int]:
        return {image_id for _, image_id, _, _ in self._image_rows()}

    def texts(self) -> list[tuple[int, str]]:
        """Yield the id and the text of each record."""
        return [(record["text_id"], record["text"]) for record in self._records]

    def truths(self) -> dict[int, list[int]]:
        """Return the ids of the images of every text.

        Raises:
            InvalidArgumentError: the split has no ``image_ids``, because its answers are not public.
        """
        truths = {record["text_id"]: record["image_ids"] for record in self._records}
        if not any(truths.values()):
            raise InvalidArgumentError(f"{self.texts_file} has no image_ids: the answers of this split are not public")
        return truths


@dataclass(frozen=True)
class ClassFolder:
    """A dataset with one folder of images for each class, the layout of ELEVATER's datasets and of ImageNet.

    Attributes:
        folder: the folder that holds the class folders. The classes are ordered by the folders' names.
        labels_file: the file with the label of one class on each line (``label_cn.txt``). None: the labels are the
            folders' names.

    Raises:
        InvalidArgumentError: there are no classes or no images, or the numbers of labels and classes differ.
    """

    folder: Path
    labels_file: Path | None = None

    def __post_init__(self) -> None:
        if not self.classes:
            raise InvalidArgumentError(f"expected a folder for each class in {self.folder}, but it holds no folders")
        if len(self.labels) != len(self.classes):
            raise InvalidArgumentError(
                f"expected a label for each of the {len(self.classes)} classes in {self.folder}, "
                f"got {len(self.labels)} labels in {self.labels_file}"
            )
        if len(set(self.labels)) < len(self.labels):
            twice = next(label for label in self.labels if self.labels.count(label) > 1)
            raise InvalidArgumentError(
                f"{self.labels_file} has the label '{twice}' for two classes; expected a different label for each class"
            )

    @cached_property
    def classes(self) -> list[str]:
        """The names of the class folders."""
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir()) if self.folder.is_dir() else []

    @cached_property
    def labels(self) -> list[str]:
        """The labels of the classes."""
        if self.labels_file is None:
            return self.classes
        return read_lines(self.labels_file)

    def images(self) -> list[tuple[int, Path]]:
        """Return every image with the index of its class.

        Raises:
            InvalidArgumentError: there are no images.
        """
        images = [
            (index, path) for index, name in enumerate(self.classes) for path in sorted(image_files(self.folder / name))
        ]
        if not images:
            raise InvalidArgumentError(f"the class folders in {self.folder} hold no images")
        return images
