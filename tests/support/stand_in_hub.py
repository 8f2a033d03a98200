"""A local HTTP server in the place of the Hugging Face hub, with the routes by which its client fetches a model."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["StandInHub", "stand_in_hub"]

_COMMIT = "5" * 40


class StandInHub(ThreadingHTTPServer):
    """An HTTP server that serves folders as models of the hub, each with one commit, and further files.

    Args:
        models: the folder of each model, by hub id.
        files: the content of further files, such as pictures, by the path of the URL.

    Attributes:
        asked: the method and the path of each request, in order.
    """

    daemon_threads = True

    def __init__(self, models: Mapping[str, Path], files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = models
        self.files = files
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        """The address of the server, for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: str) -> tuple[bytes, dict[str, str]] | None:
        """Return the body and the headers of the response for a path; None if the path does not exist."""
        if path in self.files:
            return self.files[path], {}
        for hub_id, folder in self.models.items():
            if path.startswith(f"/api/models/{hub_id}/tree/"):
                return _json([_entry(folder, file) for file in _files(folder)])
            if path in (f"/api/models/{hub_id}", f"/api/models/{hub_id}/revision/main"):
                siblings = [{"rfilename": _name(folder, file)} for file in _files(folder)]
                return _json({"id": hub_id, "sha": _COMMIT, "siblings": siblings})
            for revision in ("main", _COMMIT):
                prefix = f"/{hub_id}/resolve/{revision}/"
                if path.startswith(prefix) and (folder / path.removeprefix(prefix)).is_file():
                    content = (folder / path.removeprefix(prefix)).read_bytes()
                    return content, {"ETag": f'"{_hash(content)}"', "X-Repo-Commit": _COMMIT}
        return None


class _Handler(BaseHTTPRequestHandler):
    server: StandInHub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append((self.command, path))
        found = self.server.answer(path)
        body, headers = found or (b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
        self.send_response(404 if found is None else 200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def log_message(self, *_: object) -> None:
        """Leave out the log line that the base class prints for each request."""


@contextmanager
def stand_in_hub(models: Mapping[str, Path], files: Mapping[str, bytes] | None = None) -> Iterator[StandInHub]:
    """Run a `StandInHub` during the block."""
    hub = StandInHub(models, files or {})
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _name(folder: Path, file: Path) -> str:
    return file.relative_to(folder).as_posix()


def _entry(folder: Path, file: Path) -> dict[str, object]:
    content = file.read_bytes()
    return {"type": "file", "path": _name(folder, file), "size": len(content), "oid": _hash(content)}


def _hash(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _json(value: object) -> tuple[bytes, dict[str, str]]:
    return json.dumps(value).encode(), {"Content-Type": "application/json"}
