"""Run the Python blocks of every page unchanged and in order, on the real server.

`test_connect_pages.py` runs the pages that need frameworks and databases.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import shutil
from pathlib import Path
from typing import Any

import pytest
import trustme

from docs.pages import blocks
from tests.support.paths import ROOT
from tuwen import TuwenError
from tuwen_repository.samples import sample
from tuwen_server import EmbeddedServer

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("README*.md"), *(ROOT / "docs").rglob("*.md")]
    if path.parent.name != "connect"
    and any(block.language == "python" for block in blocks(path.read_text(encoding="utf-8")))
)
SDK_GUIDES = ["docs/guides/sdk.md", "docs/guides/sdk.zh.md"]


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Create the files that the pages use in the current folder, and return the variables for the blocks."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("cat.jpg", "coffee.jpg", "horse.png"):
        shutil.copy(sample(name), tmp_path)
        shutil.copy(sample(name), tmp_path / "photos")
    authority = trustme.CA()
    mine = authority.issue_cert("me")
    Path("ca.pem").write_bytes(authority.cert_pem.bytes())
    Path("me.pem").write_bytes(mine.cert_chain_pems[0].bytes())
    Path("me.key").write_bytes(mine.private_key_pem.bytes())
    Path("token").write_text("s3cret", encoding="utf-8")
    return {"__name__": "guide"}


def run(page: str, namespace: dict[str, Any], server: EmbeddedServer) -> None:
    for block in blocks((ROOT / page).read_text(encoding="utf-8")):
        if block.language != "python":
            continue
        source = "\n" * block.line + block.text.replace("localhost:8001", server.grpc_url)
        code = compile(source, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, namespace)
        if inspect.iscoroutine(result):
            asyncio.run(result)


def close(namespace: dict[str, Any]) -> None:
    for value in namespace.values():
        if type(value).__name__ == "Client":
            value.close()


@pytest.mark.parametrize("page", [page for page in PAGES if page not in SDK_GUIDES])
def test_the_blocks_of_a_page_run(page: str, namespace: dict[str, Any], server: EmbeddedServer) -> None:
    run(page, namespace, server)
    close(namespace)


def test_the_bulk_guide_embeds_every_picture(namespace: dict[str, Any], server: EmbeddedServer) -> None:
    run("docs/guides/bulk.md", namespace, server)
    assert set(namespace["index"]) == {Path("photos/cat.jpg"), Path("photos/coffee.jpg")}


def test_the_vectors_of_the_wire_protocol_are_unit_vectors(namespace: dict[str, Any], server: EmbeddedServer) -> None:
    run("docs/reference/wire-protocol.md", namespace, server)
    assert (namespace["embeddings"] ** 2).sum(axis=1) == pytest.approx([1, 1], abs=1e-4)


@pytest.mark.parametrize("page", SDK_GUIDES)
def test_the_blocks_of_the_guide_run(page: str, namespace: dict[str, Any], server: EmbeddedServer) -> None:
    from fastapi.testclient import TestClient

    run(page, namespace, server)
    assert namespace["bad"] == {1: "unreadable"}
    namespace["test_nearest"]()
    namespace["test_a_server_that_restarts"]()
    with pytest.raises(TuwenError):
        namespace["pods"].embed_texts(["猫"], timeout=1)  # the host name does not exist
    with TestClient(namespace["app"]) as service:
        answer = service.post("/embed", content=sample("cat.jpg").read_bytes())
        assert answer.status_code == 200
        vector = namespace["clip"].embed_images(["cat.jpg"])[0]
        assert answer.json() == pytest.approx(vector.tolist(), abs=1e-5)
        refused = service.post("/embed", content=b"no image")
        assert refused.status_code == 422
        assert "not an image" in refused.json()["detail"]
    close(namespace)
