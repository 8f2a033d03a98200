"""Every source yields its pictures, and reports the parts that cannot be read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tuwen import InvalidArgumentError
from tuwen_files.image_files import image_files, listed_kinds
from tuwen_search.entries import Found, Ignored, Unseen
from tuwen_search.errors import SourceError
from tuwen_search.sources import open_source

arrow = pytest.importorskip("pyarrow")


def picture(shade: int) -> bytes:
    output = io.BytesIO()
    Image.new("RGB", (8, 16), (shade, 255 - shade, 40)).save(output, "PNG")
    return output.getvalue()


def archive(names: tuple[str, ...] = tuple(f"{number}.png" for number in range(5))) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for shade, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = len(picture(shade))
            tar.addfile(member, io.BytesIO(picture(shade)))
    return output.getvalue()


def members() -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive())) as tar:
        return tar.getmembers()


def seen(path: Path) -> tuple[list[str], list[Unseen], dict[str, int]]:
    """Return the names of readable pictures, the unreadable parts, and the numbers of other files by suffix."""
    names, unseen, ignored = [], [], Counter[str]()
    for entry in open_source(path).pictures():
        if isinstance(entry, Found):
            assert entry.read()
            names.append(entry.name)
        elif isinstance(entry, Unseen):
            unseen.append(entry)
        else:
            assert isinstance(entry, Ignored)
            ignored[entry.kind] += entry.count
    return names, unseen, dict(ignored)


def zstd(data: bytes) -> bytes:
    output = arrow.BufferOutputStream()
    with arrow.CompressedOutputStream(output, "zstd") as stream:
        stream.write(data)
    return bytes(output.getvalue())


def bzip2_in_small_blocks(data: bytes) -> bytes:
    return bz2.compress(data, 1)


class TestFolders:
    def test_only_regular_files_are_pictures(self, tmp_path: Path) -> None:
        for name in ("a.PNG", "album.jpg/in.png", "b/c.webp"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(picture(1))
        os.mkfifo(tmp_path / "pipe.jpg")
        (tmp_path / "link.png").symlink_to(tmp_path / "a.PNG")
        for name in ("x.MOV", "y.mov", "notes", "album.jpg/x.txt"):
            (tmp_path / name).write_bytes(b"")
        names, unseen, ignored = seen(tmp_path)
        assert names == ["a.PNG", "link.png", "album.jpg/in.png", "b/c.webp"]
        assert unseen == []
        assert ignored == {".mov": 2, "without suffix": 1, ".txt": 1, ".jpg (not a regular file)": 1}

    def test_pictures_are_known_by_content_where_they_have_no_suffix(self, tmp_path: Path) -> None:
        encoded = {}
        for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF"):
            output = io.BytesIO()
            Image.new("RGB", (8, 8)).save(output, kind)
            encoded[kind] = output.getvalue()
            (tmp_path / kind).write_bytes(output.getvalue())
        for name in ("a.jfif", "b.JPE"):
            (tmp_path / name).write_bytes(encoded["JPEG"])
        (tmp_path / "avif").write_bytes(b"\0\0\0\x1cftypavif")
        (tmp_path / "heic").write_bytes(b"\0\0\0\x1cftypheic")
        (tmp_path / "notes").write_bytes(b"notes")
        (tmp_path / "raw.nef").write_bytes(encoded["TIFF"])
        (tmp_path / "._a.jfif").write_bytes(b"\0\x05\x16\x07 of macOS")
        os.mkfifo(tmp_path / "pipe")
        names, unseen, ignored = seen(tmp_path)
        assert names == ["GIF", "JPEG", "PNG", "TIFF", "WEBP", "a.jfif", "avif", "b.JPE", "heic"]
        assert unseen == []
        assert ignored == {"without suffix": 1, ".nef": 1, ".jfif": 1, "without suffix (not a regular file)": 1}
        with tarfile.open(tmp_path / "all.tar", "w") as tar:
            for name in ("PNG", "notes", "a.jfif", "._a.jfif"):
                tar.add(tmp_path / name, arcname=name)
        assert seen(tmp_path / "all.tar") == (["PNG", "a.jfif"], [], {"without suffix": 1, ".jfif": 1})

    def test_files_that_are_left_out_have_names(self, tmp_path: Path) -> None:
        for name in ("b.txt", "sub/a.txt", "c.mov"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        ignored = [entry for entry in open_source(tmp_path).pictures() if isinstance(entry, Ignored)]
        assert ignored == [Ignored(".txt", 2, ("b.txt", "sub/a.txt")), Ignored(".mov", 1, ("c.mov",))]

    def test_a_link_to_nowhere_and_a_circle_are_unseen(self, tmp_path: Path) -> None:
        (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
        (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
        names, unseen, _ = seen(tmp_path)
        assert names == []
        assert [(part.name, part.prefix) for part in unseen] == [
            ("circle.png", "circle.png"),
            ("gone.png", "gone.png"),
        ]
        assert f"cannot read '{tmp_path / 'gone.png'}': No such file or directory" in unseen[1].message

    def test_a_folder_that_cannot_be_listed_is_unseen(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder that the user may not list is reported. The error is simulated, as root may list every folder."""
        for name in ("a.png", "sub/b.png", "sub.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(picture(1))
        forbid(monkeypatch, tmp_path / "sub")
        names, [part], _ = seen(tmp_path)
        assert names == ["a.png", "sub.png"]
        assert (part.name, part.prefix, part.reason) == ("sub", "sub/", "unreadable")
        assert part.may_hold("sub/b.png")
        assert not part.may_hold("sub.png")
        with pytest.raises(InvalidArgumentError, match="cannot read '.*sub': Permission denied"):
            list(image_files(tmp_path))

    def test_a_folder_whose_files_cannot_be_examined_is_unseen(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A folder whose files cannot be examined is reported as unreadable.

        The program may list such a folder, so it gets the file names, but it has no permission to examine the files.
        """
        for name in ("a.png", "sub/b.png", "sub/inner/c.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(picture(1))
        for function in ("stat", "lstat", "scandir"):
            forbid_below(monkeypatch, function, tmp_path / "sub")
        names, unseen, _ = seen(tmp_path)
        assert names == ["a.png"]
        assert all(any(part.may_hold(name) for part in unseen) for name in ("sub/b.png", "sub/inner/c.png"))
        assert {part.reason for part in unseen} == {"unreadable"}

    def test_a_file_that_is_removed_during_the_listing_is_skipped(self, tmp_path: Path) -> None:
        for name in ("a.png", "b.png", "sub/c.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(picture(1))
        walk = image_files(tmp_path)
        assert next(walk) == tmp_path / "a.png"
        (tmp_path / "b.png").unlink()
        (tmp_path / "sub/c.png").unlink()
        (tmp_path / "sub").rmdir()
        assert list(walk) == []

    def test_a_root_that_cannot_be_listed_may_hold_every_picture(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forbid(monkeypatch, tmp_path)
        _, [part], _ = seen(tmp_path)
        assert part.may_hold("any/name.png")

    def test_kinds_are_listed_by_number(self) -> None:
        many = Counter({f".{letter}": number for number, letter in enumerate("abcdefghijk", 1)})
        assert listed_kinds(Counter({".txt": 2, ".mov": 1200})) == "1,200 .mov, 2 .txt"
        assert listed_kinds(many).endswith("4 .d, 6 others")
        assert listed_kinds(Counter()) == ""


def forbid(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    real = os.scandir

    def scandir(path: str) -> object:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(folder))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


def forbid_below(monkeypatch: pytest.MonkeyPatch, function: str, folder: Path) -> None:
    real = getattr(os, function)

    def refuse(path: Any, *arguments: Any, **options: Any) -> Any:
        if folder in Path(os.fspath(path)).parents:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, function, refuse)


class TestNames:
    def test_every_path_of_a_folder_is_one_source(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "photos"
        folder.mkdir()
        (tmp_path / "link").symlink_to(folder)
        monkeypatch.chdir(folder)
        written = (folder, Path("../photos"), Path(f"{folder}/"), tmp_path / "link", Path("."), tmp_path / "x/../link")
        (tmp_path / "x").mkdir()
        assert {open_source(path).name for path in written} == {str(folder)}

    def test_a_list_keeps_the_pictures_own_paths(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        for name in ("a.png", "sub/b.png"):
            (tmp_path / name).write_bytes(picture(1))
        (tmp_path / "list.txt").write_text(f"a.png\nsub/b.png\n./a.png\n{tmp_path}/a.png\n", encoding="utf-8")
        names, _, _ = seen(tmp_path / "list.txt")
        assert names == [str(tmp_path / "a.png"), str(tmp_path / "sub/b.png")]

    def test_a_listed_fifo_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.jpg")
        (tmp_path / "list.txt").write_text("pipe.jpg\n.\nnul\0.png\n", encoding="utf-8")
        errors = []
        for entry in open_source(tmp_path / "list.txt").pictures():
            assert isinstance(entry, Found)
            with pytest.raises(OSError, match="expected a regular file|null") as raised:
                entry.read()
            errors.append(str(raised.value))
        assert errors[0] == "expected a regular file, got a FIFO"
        assert errors[1] == "expected a regular file, got a folder"

    @pytest.mark.parametrize("name", ["pictures", "pictures.tar", "pictures.parquet"])
    def test_a_source_that_is_a_fifo_is_named(self, tmp_path: Path, name: str) -> None:
        os.mkfifo(tmp_path / name)
        with pytest.raises(SourceError, match="expected a folder or a regular file, got a FIFO"):
            open_source(tmp_path / name)

    def test_a_circle_of_links_is_an_error_of_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "circle").symlink_to(tmp_path / "circle")
        with pytest.raises(SourceError, match="circle"):
            open_source(tmp_path / "circle")


class TestArchives:
    @pytest.mark.parametrize(
        ("name", "packed"),
        [
            ("a.tar", bytes),
            ("a.TAR.GZ", gzip.compress),
            ("a.tgz", gzip.compress),
            ("a.tar.bz2", bz2.compress),
            ("a.tar.xz", lzma.compress),
            ("a.tar.zst", zstd),
            ("packed.tar", gzip.compress),
        ],
    )
    def test_plain_and_compressed_archives_are_read(
        self, tmp_path: Path, name: str, packed: Callable[[bytes], bytes]
    ) -> None:
        (tmp_path / name).write_bytes(packed(archive(("a/1.png", "a/1.txt", "2.jpg"))))
        assert seen(tmp_path / name) == (["a/1.png", "2.jpg"], [], {".txt": 1})

    def damaged(self, tmp_path: Path, data: bytes, name: str = "damaged.tar") -> tuple[int, str]:
        (tmp_path / name).write_bytes(data)
        names, [part], _ = seen(tmp_path / name)
        assert names == [f"{number}.png" for number in range(len(names))]
        assert part.may_hold("any.png")
        assert str(tmp_path / name) in part.message
        assert "\n" not in part.message
        return len(names), part.message

    def test_an_archive_cut_within_a_member_is_reported(self, tmp_path: Path) -> None:
        count, message = self.damaged(tmp_path, archive()[: members()[2].offset_data + 20])
        assert count == 2
        assert "after its member '1.png' (unexpected end of data)" in message

    def test_an_archive_cut_between_two_members_is_reported(self, tmp_path: Path) -> None:
        cut = members()[2].offset
        count, message = self.damaged(tmp_path, archive()[:cut])
        assert count == 2
        assert f"cut off at byte {cut:,}" in message

    def test_an_archive_with_a_damaged_header_is_reported(self, tmp_path: Path) -> None:
        data = bytearray(archive())
        place = members()[2].offset
        data[place + 148 : place + 156] = b"\xff" * 8
        count, message = self.damaged(tmp_path, bytes(data))
        assert count == 2
        assert f"header at byte {place:,}" in message

    def test_a_header_of_zeros_is_not_the_end_of_an_archive(self, tmp_path: Path) -> None:
        data = bytearray(archive())
        place = members()[2].offset
        data[place : place + 512] = bytes(512)
        count, message = self.damaged(tmp_path, bytes(data))
        assert count == 2
        assert f"zeros at byte {place:,}" in message

    @pytest.mark.parametrize("packed", [gzip.compress, bzip2_in_small_blocks, lzma.compress, zstd])
    def test_compressed_data_that_is_cut_is_reported(self, tmp_path: Path, packed: Callable[[bytes], bytes]) -> None:
        names = tuple(f"{number}.png" for number in range(200))
        rows = io.BytesIO()
        with tarfile.open(fileobj=rows, mode="w") as tar:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = 3_000
                tar.addfile(member, io.BytesIO(os.urandom(3_000)))
        data = packed(rows.getvalue())
        (tmp_path / "cut.tar").write_bytes(data[: len(data) * 3 // 4])
        found, parts, _ = seen(tmp_path / "cut.tar")
        assert len(parts) == 1
        assert len(found) < 200

    def test_a_wrong_checksum_at_the_end_is_reported(self, tmp_path: Path) -> None:
        data = bytearray(gzip.compress(archive()))
        data[-8:-4] = b"\0\0\0\0"
        count, message = self.damaged(tmp_path, bytes(data), "a.tar.gz")
        assert count == 5
        assert "CRC" in message

    @pytest.mark.parametrize(
        "data", [b"", b"no archive", b"\x1f\x8b\x08 cut", b"\x28\xb5\x2f\xfd cut", archive()[:300]]
    )
    def test_a_file_that_is_not_an_archive_gives_an_error_of_one_line(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "a.tar").write_bytes(data)
        with pytest.raises(SourceError, match=r"cannot read '.*a\.tar': not a tar archive") as raised:
            list(open_source(tmp_path / "a.tar").pictures())
        assert "\n" not in str(raised.value)


def packed(path: Path, **members: bytes) -> list[Found]:
    """Write an archive with the given members, and return its pictures. In a name, `_` stands for a dot."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name.replace("_", "."))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return [entry for entry in open_source(path).pictures() if isinstance(entry, Found)]


class TestCaptions:
    """In an archive, a text with a picture's name is metadata of the picture, whether before or after the picture."""

    def test_texts_beside_a_picture_are_its_metadata(self, tmp_path: Path) -> None:
        fields = '{"year": 2024, "tags": ["a"], "a b": true}'
        found = packed(
            tmp_path / "a.tar",
            **{"1_cls": b"3", "1_json": fields.encode(), "1_png": picture(1), "1_txt": "\ufeff一只猫\n".encode()},
            **{"2_jpg": picture(2), "3_png": picture(3), "3_caption": "狗".encode()},
        )
        assert [(entry.name, dict(entry.metadata)) for entry in found] == [
            ("1.png", {"class": "3", "year": 2024, "a_b": True, "caption": "一只猫"}),
            ("2.jpg", {}),
            ("3.png", {"caption": "狗"}),
        ]

    def test_a_changed_caption_is_another_version(self, tmp_path: Path) -> None:
        versions = {
            packed(tmp_path / "a.tar", **{"1_png": picture(1), "1_txt": text})[0].version for text in (b"a", b"b")
        }
        assert len(versions) == 2

    @pytest.mark.parametrize(
        "members",
        [
            {"1_txt": b"\xff\xfe"},
            {"1_json": b"[1"},
            {"1_json": b"[" * 20_000},
            {"1_txt": b"a" * 40_000},
            {"2_txt": b"x"},
        ],
    )
    def test_texts_that_describe_no_picture_are_counted(self, tmp_path: Path, members: dict[str, bytes]) -> None:
        [found] = packed(tmp_path / "a.tar", **{"1_png": picture(1)}, **members)
        assert found.metadata == {}
        _, unseen, ignored = seen(tmp_path / "a.tar")
        assert (unseen, sum(ignored.values())) == ([], 1)

    def test_a_picture_before_the_damage_is_kept_with_its_caption(self, tmp_path: Path) -> None:
        packed(tmp_path / "a.tar", **{"1_png": picture(1), "1_txt": b"cat", "2_png": picture(2)})
        with tarfile.open(tmp_path / "a.tar") as tar:
            cut = tar.getmembers()[2].offset_data + 10
        (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:cut])
        found, unseen = list(open_source(tmp_path / "a.tar").pictures())
        assert isinstance(found, Found)
        assert (found.name, dict(found.metadata)) == ("1.png", {"caption": "cat"})
        assert isinstance(unseen, Unseen)


class TestTables:
    def rows(self, folder: Path, **columns: list[object]) -> list[object]:
        from pyarrow import parquet

        parquet.write_table(arrow.table(columns), folder / "rows.parquet")
        return list(open_source(folder / "rows.parquet").pictures())

    @pytest.mark.parametrize(
        ("column", "wrapped"),
        [
            ("image", lambda path: path),
            ("path", lambda path: path),
            ("image_path", lambda path: path),
            ("image", lambda path: {"bytes": None, "path": path}),
        ],
    )
    def test_a_path_is_read_from_the_tables_folder(
        self, tmp_path: Path, column: str, wrapped: Callable[[str], object]
    ) -> None:
        (tmp_path / "a.png").write_bytes(picture(1))
        (tmp_path / "b.png").write_bytes(picture(2))
        paths = ["a.png", str(tmp_path / "b.png"), "a.png"]
        texts: list[object] = ["猫", "狗", "还是猫"]
        first, second, repeated = self.rows(tmp_path, **{column: list(map(wrapped, paths)), "caption": texts})
        assert isinstance(first, Found)
        assert isinstance(second, Found)
        assert (first.name, second.name) == (str(tmp_path / "a.png"), str(tmp_path / "b.png"))
        assert (first.read(), second.read()) == (picture(1), picture(2))
        assert first.metadata == {"caption": "猫"}
        assert repeated == Ignored("further rows of the same picture")

    def test_bytes_come_before_a_path(self, tmp_path: Path) -> None:
        image = [{"bytes": picture(1), "path": "elsewhere.png"}, {"bytes": None, "path": None}]
        first, second = self.rows(tmp_path, image=image)
        assert isinstance(first, Found)
        assert (first.name, first.read()) == ("0", picture(1))
        assert isinstance(second, Found)
        with pytest.raises(OSError, match="expected the bytes of a picture, got none"):
            second.read()

    def test_a_path_may_be_bytes(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(picture(1))
        [found] = self.rows(tmp_path, path=[b"a.png"])
        assert isinstance(found, Found)
        assert (found.name, found.read()) == (str(tmp_path / "a.png"), picture(1))

    @pytest.mark.parametrize(
        ("keys", "names"),
        [
            ([None, "b", None], ["0", "b", "2"]),
            ([float("nan"), 2.5, None], ["0", "2.5", "2"]),
            ([b"a", "猫".encode(), None], ["a", "猫", "2"]),
            ([7, 8, None], ["7", "8", "2"]),
        ],
    )
    def test_a_row_without_a_key_has_its_number_as_its_name(
        self, tmp_path: Path, keys: list[object], names: list[str]
    ) -> None:
        found = self.rows(tmp_path, image=[picture(shade) for shade in range(3)], id=keys)
        assert [entry.name for entry in found if isinstance(entry, Found)] == names

    def test_a_missing_file_is_an_error_of_its_row(self, tmp_path: Path) -> None:
        [row] = self.rows(tmp_path, path=["gone.png"])
        assert isinstance(row, Found)
        with pytest.raises(FileNotFoundError):
            row.read()

    def test_a_damaged_page_ends_the_table(self, tmp_path: Path) -> None:
        from pyarrow import parquet

        table = arrow.table({"key": [f"{number}" for number in range(400)], "image": [os.urandom(3_000)] * 400})
        path = tmp_path / "rows.parquet"
        parquet.write_table(table, path, row_group_size=100, use_dictionary=False)
        data = bytearray(path.read_bytes())
        start = parquet.ParquetFile(path).metadata.row_group(2).column(1).data_page_offset
        data[start : start + 64] = b"\xff" * 64
        path.write_bytes(bytes(data))
        names, [part], _ = seen(path)
        assert names == [f"{number}" for number in range(len(names))]
        assert 100 <= len(names) <= 200
        assert f"its rows from {len(names)} on could not be read" in part.message
        assert "\n" not in part.message

    def test_a_file_that_is_not_parquet_gives_an_error_of_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing else")
        with pytest.raises(SourceError, match=r"cannot read '.*a\.parquet': not a Parquet file") as raised:
            list(open_source(tmp_path / "a.parquet").pictures())
        assert "\n" not in str(raised.value)
