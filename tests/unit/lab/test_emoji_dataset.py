"""The emoji data set, made from small packages with the layouts of the published packages."""

from __future__ import annotations

import base64
import io
import json
import shutil
import stat
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tuwen_build.errors import BuildError, OutputExistsError
from tuwen_files.disk_space import DiskFullError
from tuwen_lab.datasets import RetrievalSplit
from tuwen_lab.datasets.emoji import LABELS, Package, Source, build_emoji_dataset, fetch, read_classes

RED, LINE = Package("@icons/red", "1.0.0"), Package("@icons/line", "1.0.0")
FILES = Package("@files/blue", "2.0.0")
SOURCES = (
    Source(RED, "train", "MIT", "Red"),
    Source(FILES, "train", "MIT", "Blue"),
    Source(LINE, "test", "CC-BY-4.0", "Line"),
)


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return a cache that holds a small version of every package, so that no package is fetched."""
    labels = tmp_path / f"emojibase-data-{LABELS.version}"
    write(
        labels / "zh" / "data.json",
        [
            {"hexcode": "1F431", "label": "猫脸", "tags": ["猫", "宠物", "猫脸"], "group": 3},
            {"hexcode": "1F436", "label": "狗脸", "tags": ["狗", "宠物"], "group": 3},
            {"hexcode": "2764-FE0F", "label": "红心", "tags": ["心"], "group": 8},
            {"hexcode": "1F1E8-1F1F3", "label": "旗: 中国", "group": 9},
            {"hexcode": "1F3FB", "label": "较浅肤色", "group": 2},
            {"hexcode": "1F468", "label": "男人", "gender": 1, "group": 1},
            {"hexcode": "1F1E6", "label": "区域指标 A"},
        ],
    )
    write(labels / "en" / "data.json", [{"hexcode": "1F436", "label": "dog face"}])
    write(labels / "en" / "shortcodes" / "cldr.json", {"2764-FE0F": ["red_heart", "heart"]})
    body = '<path fill="red" d="M0 0h10v10H0z"/>'
    red = {"icons": {name: {"body": body} for name in ("cat-face", "dog-face", "unknown-thing")}, "width": 10}
    write(tmp_path / "icons-red-1.0.0" / "icons.json", {**red, "height": 10})
    write(tmp_path / "icons-red-1.0.0" / "chars.json", {"1f431": "cat-face"})
    line = '<path fill="none" stroke="currentColor" stroke-width="4" d="M0 0h20v10H0z"/>'
    icons = {"redheart": {"body": line}, "catface": {"body": line}}
    write(tmp_path / "icons-line-1.0.0" / "icons.json", {"icons": icons, "width": 20, "height": 10})
    folder = tmp_path / "files-blue-2.0.0" / "assets"
    folder.mkdir(parents=True)
    Image.new("RGBA", (40, 20), "blue").save(folder / "1f431.webp", lossless=True)
    Image.new("RGBA", (40, 20), "blue").save(folder / "2764-fe0f.webp", lossless=True)
    (folder / "readme.txt").write_text("no picture", encoding="utf-8")
    return tmp_path


def pictures(folder: Path, split: str) -> dict[int, Image.Image]:
    found = {}
    for line in (folder / f"{split}_imgs.tsv").read_text(encoding="ascii").splitlines():
        number, content = line.split("\t")
        found[int(number)] = Image.open(io.BytesIO(base64.b64decode(content)))
    return found


def limit_disks(monkeypatch: pytest.MonkeyPatch, free: dict[Path, int]) -> None:
    """Let the disk of each folder in `free` have the stated number of free bytes. All other disks are large."""

    def usage(folder: Path) -> Any:
        size = next((size for place, size in free.items() if folder == place), 1 << 50)
        return shutil._ntuple_diskusage(1 << 50, (1 << 50) - size, size)  # type: ignore[attr-defined]

    monkeypatch.setattr(shutil, "disk_usage", usage)


def test_a_full_output_disk_is_reported_before_a_package_is_fetched(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    limit_disks(monkeypatch, {output: 1 << 20})
    monkeypatch.setattr("tuwen_lab.datasets.emoji._dataset.fetch", lambda *_: pytest.fail("fetched a package"))
    with pytest.raises(DiskFullError, match=r"the data set needs about .* MiB, and 1\.0 MiB are free; free some space"):
        build_emoji_dataset(output / "emoji", cache, sources=SOURCES)
    assert list(output.iterdir()) == []


def test_a_full_cache_disk_is_reported_only_if_packages_are_missing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_disks(monkeypatch, {cache: 1 << 20})
    output = tmp_path / "out"
    output.mkdir()
    build_emoji_dataset(output / "emoji", cache, sources=SOURCES, side=32)
    missing = Source(Package("@icons/missing", "1.0.0"), "train", "MIT", "Missing")
    monkeypatch.setattr("tuwen_lab.datasets.emoji._dataset.fetch", lambda *_: pytest.fail("fetched a package"))
    with pytest.raises(DiskFullError, match=r"the packages' cache needs about 22\.0 MiB"):
        build_emoji_dataset(output / "more", cache, sources=(*SOURCES, missing), side=32)
    assert [path.name for path in output.iterdir()] == ["emoji"]


def test_flags_components_and_genders_are_left_out(cache: Path) -> None:
    classes = read_classes(fetch(LABELS, cache))
    assert [(emoji.code, emoji.label, emoji.tags) for emoji in classes] == [
        ("1f431", "猫脸", ("猫", "宠物")),
        ("1f436", "狗脸", ("狗", "宠物")),
        ("2764", "红心", ("心",)),
    ]


def test_every_phrase_lists_all_pictures_that_it_describes(cache: Path, tmp_path: Path) -> None:
    output = tmp_path / "data"
    summary = build_emoji_dataset(output, cache, side=32, sources=SOURCES)
    assert summary.classes == 3
    assert summary.pictures == {"red": 2, "blue": 2, "line": 2}
    train = RetrievalSplit(output, "train")
    fits = {text: images for (_, text), images in zip(train.texts(), train.truths().values(), strict=True)}
    assert fits == {
        "猫脸": [0, 10_000],
        "猫": [0, 10_000],
        "宠物": [0, 1, 10_000],
        "狗脸": [1],
        "狗": [1],
        "红心": [10_002],
        "心": [10_002],
    }
    test = RetrievalSplit(output, "test")
    assert dict(zip([text for _, text in test.texts()], test.truths().values(), strict=True)) == {
        "猫脸": [20_000],
        "红心": [20_002],
    }


def test_pictures_are_squares_with_a_transparent_background(cache: Path, tmp_path: Path) -> None:
    build_emoji_dataset(tmp_path / "data", cache, side=32, sources=SOURCES)
    found = {**pictures(tmp_path / "data", "train"), **pictures(tmp_path / "data", "test")}
    for picture in found.values():
        assert (picture.size, picture.mode) == ((32, 32), "RGBA")
    assert found[0].getpixel((16, 16)) == (255, 0, 0, 255)
    assert found[10_000].getpixel((16, 16)) == (0, 0, 255, 255)
    assert found[10_000].getpixel((16, 2)) == (0, 0, 0, 0)  # the margin above the picture
    ink = np.asarray(found[20_000])
    assert ink[..., 3].max() == 255
    assert ink[ink[..., 3] == 255][:, :3].max() < 0x30


def test_several_processes_draw_the_same_pictures_as_one(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_emoji_dataset(tmp_path / "one", cache, side=32, sources=SOURCES)
    monkeypatch.setattr("tuwen_lab.datasets.emoji._artwork._DRAWN_AT_ONCE", 1)
    build_emoji_dataset(tmp_path / "several", cache, side=32, sources=SOURCES)
    for name in ("train_imgs.tsv", "train_texts.jsonl", "test_imgs.tsv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "several" / name).read_bytes()


def test_a_folder_with_other_files_is_left_alone(cache: Path, tmp_path: Path) -> None:
    mine = tmp_path / "data" / "train_imgs.tsv"
    mine.parent.mkdir()
    mine.write_text("mine")
    for force in (False, True):
        with pytest.raises(OutputExistsError, match="sources.json is missing"):
            build_emoji_dataset(mine.parent, cache, side=16, force=force, sources=SOURCES)
    assert mine.read_text() == "mine"


def test_an_earlier_data_set_is_replaced_only_with_force(cache: Path, tmp_path: Path) -> None:
    build_emoji_dataset(tmp_path / "data", cache, side=16, sources=SOURCES)
    with pytest.raises(OutputExistsError, match="--force replaces it"):
        build_emoji_dataset(tmp_path / "data", cache, side=32, sources=SOURCES)
    build_emoji_dataset(tmp_path / "data", cache, side=32, force=True, sources=SOURCES)
    assert pictures(tmp_path / "data", "test")[20_000].size == (32, 32)


def test_an_interrupted_run_leaves_no_output(cache: Path, tmp_path: Path) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_emoji_dataset(tmp_path / "data", cache, side=16, sources=SOURCES, progress=interrupt)
    assert not (tmp_path / "data").exists()


def test_makers_and_licences_are_recorded(cache: Path, tmp_path: Path) -> None:
    build_emoji_dataset(tmp_path / "data", cache, side=16, sources=SOURCES)
    record = json.loads((tmp_path / "data" / "sources.json").read_text(encoding="utf-8"))
    assert record["labels"] == {"name": "emojibase-data", "version": LABELS.version}
    assert record["artwork"][2] == {
        "package": {"name": "@icons/line", "version": "1.0.0"},
        "split": "test",
        "licence": "CC-BY-4.0",
        "attribution": "Line",
        "pictures": 2,
    }


def fake_npm(folder: Path, script: str) -> None:
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / "npm").chmod(stat.S_IRWXU)


class TestFetch:
    def test_a_package_is_fetched_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "package").mkdir()
        (tmp_path / "package" / "icons.json").write_text("{}", encoding="utf-8")
        with tarfile.open(tmp_path / "made.tgz", "w:gz") as archive:
            archive.add(tmp_path / "package", "package")
        fake_npm(tmp_path, f'echo "$@" >> {tmp_path}/calls; cp {tmp_path}/made.tgz "$4"/icons-red-1.0.0.tgz')
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        for _ in range(2):
            folder = fetch(RED, tmp_path / "cache")
            assert (folder / "icons.json").read_text(encoding="utf-8") == "{}"
        (call,) = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
        assert call.startswith("pack @icons/red@1.0.0 --pack-destination")
        assert [path.name for path in (tmp_path / "cache").iterdir()] == ["icons-red-1.0.0"]

    @pytest.mark.parametrize(
        ("script", "message"),
        [
            ("echo no network >&2; exit 1", "npm cannot fetch @icons/red@1.0.0: no network"),
            (
                "echo 'ENOSPC: no space left on device' >&2; exit 1",
                "@icons/red@1.0.0: the disk is full; free",
            ),
            ("exit 0", "not a package"),
        ],
    )
    def test_a_failure_of_npm_is_reported_with_its_reason(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
    ) -> None:
        fake_npm(tmp_path, script)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        with pytest.raises(BuildError, match=message):
            fetch(RED, tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []

    def test_without_npm_the_error_names_node_js(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(BuildError, match="needs npm, which comes with Node.js"):
            fetch(RED, tmp_path / "cache")
