"""Tests of `make demo`: its output, and the search quality of its checkpoint."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.support.artefacts import Artefacts
from tests.support.repositories import demo_repository
from tests.support.servers import SharedServers
from tuwen import Client
from tuwen_lab.demo import EVERYDAY_WORDS, GALLERY
from tuwen_lab.demo._gallery import THINGS
from tuwen_lab.demo._results_picture import write_results

RIGHT = {
    "猫": {"猫", "猫脸"},
    "狗": {"狗", "狗脸"},
    "老虎": {"老虎", "老虎头"},
    "汽车": {"汽车", "出租车"},
    "苹果": {"红苹果", "青苹果"},
    "月亮": {"弯月", "满月"},
    "太阳": {"太阳", "微笑的太阳"},
    "自行车": {"自行车", "骑自行车"},
    "蛋糕": {"生日蛋糕"},
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run the demo, and return the text that it prints."""
    folder = tmp_path_factory.mktemp("demo")
    finished = subprocess.run(
        [sys.executable, "-m", "tuwen_lab.demo"], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    sheet = ElementTree.parse(folder / ".cache" / "demo" / "search.svg").getroot()
    assert len(sheet.findall("{http://www.w3.org/2000/svg}image")) == 50
    return finished.stdout


def test_answers_every_word_and_proves_its_vectors(shown: str) -> None:
    for word in EVERYDAY_WORDS:
        assert re.search(rf"│ {word} +│", shown)
    differences = [float(number) for number in re.findall(r"difference in one component ([\d.e+-]+)", shown)]
    assert len(differences) == 2
    assert max(differences) < 1e-5


def test_ends_with_a_curl_command_that_worked_during_the_demo(shown: str) -> None:
    line = shown.strip().splitlines()[-1]
    assert line.startswith("curl http://127.0.0.1:8080/v1/embeddings ")
    asked, answer = re.findall(r"^\$ (curl .*)\n(.*)", shown, re.MULTILINE)[0]
    assert re.sub(r":\d+/", ":8080/", asked) == line
    assert answer.startswith('{"object":"list"') or "curl is not installed" in answer


def test_recognises_a_cat(shown: str) -> None:
    probabilities = {text: float(number) for text, number in re.findall(r"│ (\S+) +│ +[\d.-]+ │ +([\d.]+)% │", shown)}
    assert len(probabilities) == 6
    assert max(probabilities, key=probabilities.__getitem__) == "一只猫"


def test_the_demo_checkpoint_finds_the_right_pictures(servers: SharedServers, artefacts: Artefacts) -> None:
    """The demo's checkpoint ranks the right pictures high, on average over all queries.

    Single queries are not checked, because a newly trained checkpoint may swap two pictures.
    """
    pictures = sorted(GALLERY.glob("*.png"))
    names = [picture.stem for picture in pictures]
    queries = [*EVERYDAY_WORDS, *names]
    with Client(servers.on(demo_repository(artefacts)).grpc_url) as clip:
        cosines = clip.embed_texts(queries) @ clip.embed_images(pictures).T
    ranks = []
    for text, row in zip(queries, cosines, strict=True):
        right = RIGHT.get(text, {text})
        ranks.append(next(rank for rank, index in enumerate(np.argsort(-row)) if names[index] in right))
    everyday, labels = np.array(ranks[: len(EVERYDAY_WORDS)]), np.array(ranks[len(EVERYDAY_WORDS) :])
    assert len(everyday) == 10
    assert (everyday == 0).sum() >= 8
    assert (labels < 10).mean() > 0.9


def test_every_gallery_picture_is_in_the_list_of_things() -> None:
    assert {picture.stem for picture in GALLERY.glob("*.png")} <= set(THINGS)
    assert {"猫", "狗", "老虎", "红心", "太阳", "自行车"} <= {picture.stem for picture in GALLERY.glob("*.png")}


def test_a_query_with_markup_stays_text_in_the_results_picture(tmp_path: Path) -> None:
    picture = next(GALLERY.glob("*.png"))
    write_results(tmp_path / "results.svg", [("<猫 & 狗>", [(picture, 0.5)])])
    texts = [node.text for node in ElementTree.parse(tmp_path / "results.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["<猫 & 狗>", "0.50"]
