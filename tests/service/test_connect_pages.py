"""Run the Python blocks of the pages about frameworks and databases unchanged, on the demo's model."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support.artefacts import Artefacts
from tests.support.edge import edge_process
from tests.support.frameworks import run_in_frameworks
from tests.support.paths import GALLERY, ROOT
from tests.support.repositories import demo_repository
from tests.support.servers import SharedServers

FOLDER = ROOT / "docs" / "guides" / "connect"
# The translated pages are not run: a unit test checks that their code equals the code of these pages.
PAGES = sorted(
    path.name
    for path in FOLDER.glob("*.md")
    if "```python" in path.read_text(encoding="utf-8") and not path.name.endswith(".zh.md")
)


@pytest.fixture(scope="module")
def addresses(servers: SharedServers, artefacts: Artefacts) -> Iterator[list[str]]:
    """Yield the address of a server of the demo's model, and the address of an HTTP edge in front of the server."""
    url = servers.on(demo_repository(artefacts)).grpc_url
    with edge_process(url) as edge:
        yield [url, edge.address]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder whose subfolder ``photos`` holds the pictures that the pages use."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("狗", "热茶", "火箭"):
        shutil.copy(GALLERY / f"{name}.png", photos)
    with Image.open(GALLERY / "猫.png") as picture:
        flat = Image.new("RGB", picture.size, "white")
        flat.paste(picture, mask=picture.convert("RGBA").getchannel("A"))
    flat.save(photos / "cat.jpg", quality=95)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_find_the_picture(page: str, addresses: list[str], folder: Path) -> None:
    environment = "weaviate" if page == "weaviate.md" else "frameworks"
    arguments = [str(FOLDER / page), *addresses]
    printed = run_in_frameworks("tests/reference/page_blocks.py", *arguments, cwd=folder, environment=environment)
    assert re.match(r"(0\.\d{3} )?cat\.jpg\n(0\.\d{3} )?狗\.png\n", printed), printed
