"""A shop indexes a table of product pictures, changes it, calibrates a threshold, and meets broken servers."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import trustme

from tests.support.command import TUWEN, started, tuwen_process, wait_until
from tests.support.relay import Relay
from tests.support.servers import RecordedServer
from tests.support.shop import SHARE_OF_DARK, Shop

pytest.importorskip("pymilvus")
PICTURES = 5_000
Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"), PICTURES)


@pytest.fixture
def run(server: RecordedServer, shop: Shop) -> Run:
    """Return a function that runs a `tuwen` command in its own process, with the shop's store and the server."""
    store = str(shop.folder / "shop.db")

    def command(*arguments: object, code: int | None = 0, url: str = "") -> CompletedProcess[str]:
        environment = {**os.environ, "COLUMNS": "200", "TUWEN_STORE": store, "TUWEN_URL": url or server.grpc_url}
        return tuwen_process(*map(str, arguments), code=code, env=environment)

    return command


def test_a_table_is_indexed_changed_and_filtered_while_the_page_runs(
    run: Run, shop: Shop, server: RecordedServer
) -> None:
    assert f"{PICTURES:,} added, 0 changed" in run("index", shop.table, "--into", "shop").stdout
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "TUWEN_STORE": str(shop.folder / "shop.db"), "TUWEN_URL": server.grpc_url}
    page = f"http://127.0.0.1:{port}/?max.price=504"

    def shown() -> str:
        try:
            with urllib.request.urlopen(page, timeout=30) as response:
                return str(response.read().decode())
        except OSError:
            return ""

    with started([TUWEN, "web", "shop", "--port", str(port)], env=environment) as web:
        try:
            wait_until(shown, running=web)
            assert '鞋 <span class="hint">1,667</span>' in shown()
            assert '<span class="hint">5 – 504</span>' in shown()
            for number in range(100):
                shop.rows[f"{number:04}.png"]["price"] = "9999"
            for number in range(200, 205):
                shop.paint(f"{number:04}.png", 10_000 + number, dark=False)
            for number in range(300, 303):
                del shop.rows[f"{number:04}.png"]
            shop.write()
            changed = run("index", shop.table, "--into", "shop").stdout
            assert "0 added, 5 changed, 100 with new metadata, 4,892 unchanged, 3 removed, 0 failed" in changed
            wait_until(lambda: '<span class="hint">5 – 9,999</span>' in shown(), running=web)
            assert '鞋 <span class="hint">1,632</span>' in shown()  # 34 cost too much now, and one was removed
        finally:
            web.terminate()
    hits = json.loads(run("search", "shop", "红色的鞋", "--where", 'price > 9000 and 类别 == "鞋"', "--json").stdout)[
        "hits"
    ]
    assert hits
    assert {(hit["metadata"]["price"], hit["metadata"]["类别"]) for hit in hits} == {(9999, "鞋")}
    assert "5 to 9999" in run("collections", "fields", "shop").stdout
    assert "nothing fits" in run("search", "shop", "红色的鞋", "--min-score", "0.999").stdout


def test_a_calibrated_threshold_reaches_the_wanted_recall_on_new_pictures(run: Run, shop: Shop) -> None:
    for folder, numbers in (
        ("positive", range(0, shop.dark, 2)),
        ("negative", range(shop.dark, 2_000)),
        ("new", range(1, shop.dark, 2)),
    ):
        (shop.folder / folder).mkdir()
        for number in numbers:
            (shop.folder / folder / f"{number:04}.png").symlink_to(shop.folder / f"{number:04}.png")
    judged = ("--positive", shop.folder / "positive", "--negative", shop.folder / "negative")
    output = shop.folder / "dark.json"
    wanted = ("--recall", "0.9", "--base-rate", SHARE_OF_DARK)
    assert "cross-validated" in run("calibrate", *judged, *wanted, "-t", "黑色的", "-o", output).stdout
    told = json.loads(run("classify", shop.folder / "new", "--threshold", output, "--json").stdout)
    assert np.mean(told["accepted"]) >= 0.9


def test_vectors_in_a_file_follow_changed_removed_and_renamed_pictures(run: Run, shop: Shop, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for number in range(400, 406):
        (few / f"{number:04}.png").write_bytes((shop.folder / f"{number:04}.png").read_bytes())
    output = tmp_path / "v.npz"

    def counted() -> list[int]:
        told = json.loads(run("embed", few, "-o", output, "--json").stdout)
        return [told[name] for name in ("added", "changed", "unchanged", "removed", "failed")]

    assert counted() == [6, 0, 0, 0, 0]
    (few / "0400.png").write_bytes((shop.folder / "0410.png").read_bytes())
    (few / "0401.png").unlink()
    (few / "0402.png").rename(few / "renamed.png")
    assert counted() == [1, 1, 3, 2, 0]
    assert counted() == [0, 0, 5, 0, 0]


def test_collections_are_copied_compared_renamed_and_dropped(run: Run, shop: Shop) -> None:
    table = shop.folder / "twenty.csv"
    lines = shop.table.read_text(encoding="utf-8").splitlines()[1000:1019]
    (shop.folder / "copy.png").write_bytes((shop.folder / lines[0].partition(",")[0]).read_bytes())
    table.write_text("\n".join(["path,price,类别", *lines, "copy.png,5,包"]) + "\n", encoding="utf-8")
    run("index", table, "--into", "twenty")
    found = json.loads(run("search", "twenty", "包", "--limit", "20", "--json").stdout)["hits"]
    copy = next(hit for hit in found if hit["name"].endswith("copy.png"))
    like = json.loads(run("search", "twenty", "--like", copy["id"], "--limit", "2", "--json").stdout)["hits"]
    assert {Path(hit["name"]).name for hit in like} == {"copy.png", lines[0].partition(",")[0]}
    groups = run("duplicates", "twenty", "--threshold", "0.9999", "--show", shop.folder / "groups.png").stdout
    assert "copy.png" in groups
    assert (shop.folder / "groups.png").is_file()
    run("collections", "copy", "twenty", "backup", "--to", shop.folder / "backup.db")
    run("collections", "rename", "twenty", "renamed")
    assert "20 pictures" in run("collections", "show", "renamed").stdout
    assert "20 pictures" in run("collections", "show", "backup", "--store", shop.folder / "backup.db").stdout
    run("collections", "drop", "renamed", "--yes")
    listed = json.loads(run("collections", "list", "--json").stdout)["collections"]
    assert "renamed" not in [one["collection"] for one in listed]


@contextmanager
def silent() -> Iterator[str]:
    """Provide the address of a server that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def web_server() -> Iterator[str]:
    """Provide the address of a web server that speaks HTTP/1 only, as if the user chose the wrong port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def down() -> Iterator[str]:
    """Provide an address at which no program listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"127.0.0.1:{listener.getsockname()[1]}"
    yield url


@contextmanager
def wrong_host() -> Iterator[str]:
    """Provide an address whose host name cannot be resolved: the domain ``.invalid`` is reserved for this."""
    yield "clip.invalid:8001"


@contextmanager
def encrypted() -> Iterator[str]:
    """Provide the address of a server that requires TLS. The commands call the server without encryption."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        (down, "nothing listens at this address"),
        (silent, "no response came"),
        (web_server, "speaks HTTP instead of gRPC"),
        (wrong_host, "the host name cannot be resolved"),
        (encrypted, "if it uses TLS"),
    ],
    ids=["down", "silent", "web server", "wrong host", "TLS"],
)
@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("embed", "-t", "猫", "--json"),
        ("similarity", "-i", "0000.png", "-t", "猫"),
        ("classify", "0000.png", "-l", "猫", "-l", "狗"),
        ("index", "products.csv", "--into", "other"),
    ],
    ids=lambda command: command[0],
)
def test_a_broken_server_prints_one_sentence(
    run: Run, shop: Shop, broken: Callable[[], object], cause: str, command: tuple[str, ...]
) -> None:
    arguments = [shop.folder / part if part.endswith((".png", ".csv")) else part for part in command]
    with broken() as url:  # type: ignore[attr-defined]
        failed = run(*arguments, "--timeout", "2", url=url, code=1)
    lines = (failed.stdout + failed.stderr).strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("tuwen: ") or "not ready" in lines[0]
    assert cause in lines[0]


@pytest.mark.parametrize(
    ("broken", "cause"),
    [(web_server, "this port does not speak TLS"), (down, "nothing listens at this address")],
    ids=["no TLS", "down"],
)
def test_tls_to_a_server_without_tls_prints_one_sentence(run: Run, broken: Callable[[], object], cause: str) -> None:
    with broken() as url:  # type: ignore[attr-defined]
        failed = run("--tls", "embed", "-t", "猫", "--json", "--timeout", "3", url=url, code=1)
    lines = (failed.stdout + failed.stderr).strip().splitlines()
    assert len(lines) == 1, lines
    assert cause in lines[0]


def test_a_slow_server_prints_one_sentence_or_the_answer(run: Run, server: RecordedServer) -> None:
    with Relay(server.grpc_url, pause=1.0) as slow:
        failed = run("embed", "-t", "猫", "--json", "--timeout", "0.5", url=slow.url, code=1)
        lines = (failed.stdout + failed.stderr).strip().splitlines()
        assert len(lines) == 1, lines
        assert "timeout" in lines[0]
        assert "猫" in run("embed", "-t", "猫", "--json", "--timeout", "60", url=slow.url).stdout
