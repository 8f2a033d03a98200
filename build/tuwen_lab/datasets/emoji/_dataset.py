"""Writing pictures and phrases into the files that Chinese-CLIP's scripts and `tuwen train` read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tuwen_build.outputs import OutputFolder
from tuwen_files.disk_space import check_space
from tuwen_lab.datasets.emoji._artwork import names_of, pictures
from tuwen_lab.datasets.emoji._classes import EmojiClass, read_classes, read_names
from tuwen_lab.datasets.emoji._packages import LABELS, SOURCES, Source, fetch, is_cached

__all__ = ["DatasetSummary", "build_emoji_dataset"]

_PICTURES_A_SOURCE, _BYTES_A_SIDE = 1_500, 66  # measured: a picture of 128 pixels takes 8.4 KB in base64
_BYTES_A_PACKAGE = 22 << 20  # measured: twelve packages take 244 MiB
_IMAGES_A_SOURCE = 10_000  # image id = source * this + class


@dataclass(frozen=True)
class DatasetSummary:
    """The counts of a written dataset.

    Attributes:
        classes: the number of emoji with a Chinese name.
        pictures: the number of pictures by source.
        texts: the number of texts by split.
    """

    classes: int
    pictures: Mapping[str, int]
    texts: Mapping[str, int]


def build_emoji_dataset(
    output: Path,
    cache: Path,
    *,
    side: int = 128,
    force: bool = False,
    sources: Sequence[Source] = SOURCES,
    progress: Callable[[str], None] = lambda _: None,
) -> DatasetSummary:
    """Write ``{split}_imgs.tsv`` and ``{split}_texts.jsonl`` for every split, and ``sources.json``.

    The texts of the training split are labels and keywords, each with all pictures that it fits, from every maker. The
    texts of the other splits are labels alone.

    Args:
        output: the folder of the data set, which appears complete or not at all.
        cache: the folder for fetched packages.
        side: the side of the pictures in pixels.
        force: whether an earlier data set of this function may be replaced. Other folders are never replaced.
        sources: the packages with the artwork.
        progress: a function that is called with the name of each source when its pictures begin.

    Raises:
        OutputExistsError: the folder holds other files, or it holds an earlier data set and `force` is off.
        DiskFullError: the disk has too little free space.
        BuildError: a package cannot be fetched or has another structure, or the folder cannot be written.
        ImportError: resvg_py is not installed.
    """
    folder = OutputFolder(output, "sources.json", force)
    folder.check()
    check_space(output, len(sources) * _PICTURES_A_SOURCE * _BYTES_A_SIDE * side, "the data set")
    missing = [package for package in (LABELS, *(one.package for one in sources)) if not is_cached(package, cache)]
    check_space(cache, len(missing) * _BYTES_A_PACKAGE, "the packages' cache")
    labels = fetch(LABELS, cache)
    classes = read_classes(labels)
    place = {emoji.code: index for index, emoji in enumerate(classes)}
    folders = {source: fetch(source.package, cache) for source in sources}
    names = read_names(labels, map(names_of, folders.values()))
    shown: dict[str, dict[int, list[int]]] = {source.split: {} for source in sources}
    counts: dict[str, int] = {}
    with folder.staged() as staged:
        files = {split: (staged / f"{split}_imgs.tsv").open("w", encoding="ascii") for split in shown}
        try:
            for number, source in enumerate(sources):
                progress(source.name)
                counts[source.name] = 0
                for code, picture in pictures(folders[source], names, side):
                    if code not in place:
                        continue
                    image = number * _IMAGES_A_SOURCE + place[code]
                    images = shown[source.split].setdefault(place[code], [])
                    if image in images:  # a maker's second file for one emoji, with another variation selector
                        continue
                    files[source.split].write(f"{image}\t{base64.b64encode(picture).decode('ascii')}\n")
                    images.append(image)
                    counts[source.name] += 1
        finally:
            for file in files.values():
                file.close()
        texts = {split: _write_texts(staged, split, classes, images) for split, images in shown.items()}
        record = [{**asdict(source), "pictures": counts[source.name]} for source in sources]
        content = json.dumps({"labels": asdict(LABELS), "artwork": record}, ensure_ascii=False, indent=2)
        (staged / "sources.json").write_text(content + "\n", encoding="utf-8")
    return DatasetSummary(len(classes), counts, texts)


def _write_texts(output: Path, split: str, classes: Sequence[EmojiClass], shown: Mapping[int, Sequence[int]]) -> int:
    """Write one line for each different phrase, with every picture that it fits."""
    fits: dict[str, list[int]] = {}
    for index, images in sorted(shown.items()):
        emoji = classes[index]
        for phrase in (emoji.label, *(emoji.tags if split == "train" else ())):
            fits.setdefault(phrase, []).extend(images)
    with (output / f"{split}_texts.jsonl").open("w", encoding="utf-8") as file:
        for number, (phrase, images) in enumerate(fits.items()):
            record = {"text_id": number, "text": phrase, "image_ids": sorted(set(images))}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return len(fits)
