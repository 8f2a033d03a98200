"""Run the programs in ``examples/`` with the commands of their page, on the demo's model."""

from __future__ import annotations

import csv
import os
import re
import runpy
import shlex
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.support.artefacts import Artefacts
from tests.support.command import started, wait_until
from tests.support.paths import ROOT
from tests.support.repositories import demo_repository
from tests.support.servers import RecordedServer, SharedServers
from tuwen import Client
from tuwen_files import EmbeddingTable
from tuwen_lab.demo import GALLERY

EXAMPLES = ROOT / "examples"
PAGE = (EXAMPLES / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))

Run = Callable[..., str]


@pytest.fixture
def demo(servers: SharedServers, artefacts: Artefacts) -> RecordedServer:
    return servers.on(demo_repository(artefacts))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder ``photos`` in a temporary current folder, where the page's commands find their files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


@pytest.fixture
def run(demo: RecordedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a program with its command on the page and returns the program's output."""

    def run(name: str, *more: str, code: int = 0) -> str:
        [command] = [line for line in COMMANDS if line.startswith(f"python examples/{name} ")]
        arguments = shlex.split(command)[2:]
        monkeypatch.setattr(sys, "argv", [name, *arguments, *more, "--url", demo.grpc_url])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        printed = capsys.readouterr()
        assert (ended.value.code or 0) == code, printed.out + printed.err
        return printed.out

    return run


def copy(names: str, folder: Path) -> None:
    for name in names.split():
        shutil.copy(GALLERY / f"{name}.png", folder)


def write_csv(path: str, header: list[str], rows: list[list[str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def test_the_page_lists_each_program_and_shows_its_command() -> None:
    for name in PROGRAMS:
        assert f"[{name}]({name})" in PAGE
        assert any(f"{Path(name).stem}.py " in line or f"{Path(name).stem}:app" in line for line in COMMANDS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_shorter_than_80_lines(name: str) -> None:
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) < 80


def test_labels_a_folder_and_skips_a_broken_picture(photos: Path, run: Run) -> None:
    copy("猫脸 狗脸 热茶", photos)
    (photos / "broken.png").write_bytes(b"no picture")
    printed = run("label_folder.py")
    assert "skipped photos/broken.png: " in printed
    with open("labels.csv", newline="", encoding="utf-8") as file:
        rows = {Path(row["picture"]).stem: row for row in csv.DictReader(file)}
    assert {name: row["label"] for name, row in rows.items()} == {"猫脸": "猫", "狗脸": "狗", "热茶": "咖啡"}
    assert all(0.3 < float(row["probability"]) <= 1 for row in rows.values())
    run("label_folder.py", "--minimum", "0.99")
    with open("labels.csv", newline="", encoding="utf-8") as file:
        assert {row["label"] for row in csv.DictReader(file)} == {""}


def test_the_batch_job_resumes_and_lists_refused_pictures(photos: Path, run: Run, demo: RecordedServer) -> None:
    copy("猫 狗 熊", photos)
    products = [["p1", "photos/猫.png"], ["p2", "photos/狗.png"]]
    write_csv("products.csv", ["id", "picture"], products)
    assert "2 new vectors, 0 products refused" in run("batch_job.py")
    write_csv("products.csv", ["id", "picture"], [*products, ["p3", "photos/熊.png"], ["p4", "photos/missing.png"]])
    assert "1 new vectors, 1 products refused" in run("batch_job.py", code=1)
    assert Path("vectors.npz.refused.csv").read_text(encoding="utf-8").splitlines()[1].startswith("p4,unreadable,")
    table = EmbeddingTable.load("vectors.npz")
    assert table.keys == ["p1", "p2", "p3"]
    with Client(demo.grpc_url) as clip:
        expected = clip.embed_images([photos / "猫.png", photos / "狗.png", photos / "熊.png"])
    np.testing.assert_allclose(table.embeddings, expected, atol=1e-5)


def test_finds_copies_of_another_size_and_format(photos: Path, run: Run) -> None:
    copy("猫 狗 熊 披萨 火箭", photos)
    with Image.open(photos / "猫.png") as picture:
        flat = Image.new("RGB", picture.size, "white")
        flat.paste(picture, mask=picture.convert("RGBA").getchannel("A"))
    flat.save(photos / "copy.jpg", quality=95)
    shutil.copy(photos / "火箭.png", photos / "again.png")
    *groups, total = run("find_duplicates.py").strip().split("\n\n")
    found = {frozenset(re.findall(r"photos/(\S+)", group)) for group in groups}
    assert found == {frozenset({"猫.png", "copy.jpg"}), frozenset({"火箭.png", "again.png"})}
    assert total == "2 groups among 7 pictures"


def test_moderation_takes_its_threshold_from_judged_pictures(photos: Path, run: Run) -> None:
    Path("judged").mkdir()
    copy("西瓜 柠檬 草莓 青苹果 橘子 猫 火箭 自行车 雨伞 鼓", Path("judged"))
    rows = [[f"judged/{name}.png", "yes"] for name in ("西瓜", "柠檬", "草莓", "青苹果", "橘子")]
    rows += [[f"judged/{name}.png", "no"] for name in ("猫", "火箭", "自行车", "雨伞", "鼓")]
    write_csv("judged.csv", ["picture", "flag"], rows)
    copy("桃 樱桃 梨 红苹果 葡萄 菠萝 狗 老虎 飞机 手机 房子 医院", photos)
    first, *flagged = run("moderate.py").splitlines()
    assert re.fullmatch(r"threshold [\d.]+: flags 5 of 5 judged yes, 0 of 5 no", first)
    names = {Path(line.split()[1]).stem for line in flagged}
    assert len(names & {"桃", "樱桃", "梨", "红苹果", "葡萄", "菠萝"}) >= 4
    assert not names & {"狗", "老虎", "飞机", "手机", "房子", "医院"}
    write_csv("judged.csv", ["picture", "flag"], rows[:5])
    run("moderate.py", code=2)


def test_the_threshold_is_the_highest_with_the_wanted_recall() -> None:
    choose = runpy.run_path(str(EXAMPLES / "moderate.py"))["choose_threshold"]
    cosines = np.array([0.5, 0.4, 0.3, 0.2, 0.1], np.float32)
    flags = np.array([True, True, False, True, False])
    assert choose(cosines, flags, 0.6) == pytest.approx(0.35)
    assert choose(cosines, flags, 1.0) == pytest.approx(0.15)
    assert choose(np.array([0.5], np.float32), np.array([True]), 1.0) == pytest.approx(0.5)


def test_the_search_service_finds_pictures_by_words_and_by_a_picture(photos: Path, demo: RecordedServer) -> None:
    copy("猫 狗 火箭 自行车 披萨", photos)
    [command] = [line for line in COMMANDS if "uvicorn" in line]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings, program = command.split(" uvicorn ")
    port = f"--port {address.rpartition(':')[2]}"
    arguments = shlex.split(re.sub(r"--port \d+", port, program).replace("examples", str(EXAMPLES)))
    environment = {**os.environ, **dict(part.split("=") for part in settings.split()), "TUWEN_URL": demo.grpc_url}
    with started([sys.executable, "-m", "uvicorn", *arguments], env=environment) as service:
        with httpx.Client(base_url=f"http://{address}", timeout=30) as web:

            def answers() -> bool:
                try:
                    return web.get("/docs").is_success
                except httpx.TransportError:
                    return False

            wait_until(answers, running=service)
            hits = web.get("/search", params={"text": "自行车", "limit": 3}).json()
            assert [hit["name"] for hit in hits][:1] == ["自行车.png"]
            assert len(hits) == 3
            assert hits[0]["score"] > hits[1]["score"]
            cat = web.post("/search", content=(photos / "猫.png").read_bytes()).json()
            assert (cat[0]["name"], cat[0]["score"]) == ("猫.png", pytest.approx(1, abs=1e-3))
            thumbnail = web.get(f"/thumbnails/{cat[0]['id']}")
            assert thumbnail.headers["content-type"] == "image/webp"
            assert web.get(f"/thumbnails/{'0' * 32}").status_code == 404
            assert web.get("/search", params={"text": " "}).status_code == 422
            assert web.post("/search", content=b"no picture").status_code == 422
            assert web.get("/search", params={"text": "猫", "limit": 0}).status_code == 422
        service.terminate()
        service.wait(30)
