"""The Python blocks of the README and of the client's guide, run as they stand, in order, against the real server."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.paths import ROOT
from tuwen import TuwenError
from tuwen_repository.samples import sample
from tuwen_server import EmbeddedServer

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A folder with the files that the pages speak of."""
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
    text = (ROOT / page).read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        source = "\n" * line + block[1].replace("localhost:8001", server.grpc_url)
        code = compile(source, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, namespace)
        if inspect.iscoroutine(result):
            asyncio.run(result)


def close(namespace: dict[str, Any]) -> None:
    for value in namespace.values():
        if type(value).__name__ == "Client":
            value.close()


def test_the_blocks_of_the_readme_run(namespace: dict[str, Any], server: EmbeddedServer) -> None:
    run("README.md", namespace, server)
    assert namespace["images"].shape == (2, 64)
    assert set(namespace["index"]) == {Path("photos/cat.jpg"), Path("photos/coffee.jpg")}
    close(namespace)


def test_the_blocks_of_the_guide_run(namespace: dict[str, Any], server: EmbeddedServer) -> None:
    run("client/README.md", namespace, server)
    assert namespace["bad"] == {1: "unreadable"}
    assert set(namespace["index"]) == {Path("photos/cat.jpg"), Path("photos/coffee.jpg")}
    assert namespace["best"] in {"cat", "coffee"}
    namespace["test_nearest"]()
    namespace["test_a_server_that_restarts"]()
    with pytest.raises(TuwenError):
        namespace["pods"].embed_texts(["猫"], timeout=1)  # the name is nobody's here
    close(namespace)


def test_the_service_of_the_guide_responds(namespace: dict[str, Any], server: EmbeddedServer) -> None:
    from fastapi.testclient import TestClient

    run("client/README.md", namespace, server)
    with TestClient(namespace["app"]) as service:
        answer = service.post("/embed", content=sample("cat.jpg").read_bytes())
        assert answer.status_code == 200
        vector = namespace["clip"].embed_images(["cat.jpg"])[0]
        assert answer.json() == pytest.approx(vector.tolist(), abs=1e-5)
        refused = service.post("/embed", content=b"no image")
        assert refused.status_code == 422
        assert "not an image" in refused.json()["detail"]
    close(namespace)
