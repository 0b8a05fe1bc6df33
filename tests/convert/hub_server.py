"""A small local HTTP server with the part of the Hugging Face Hub API that a download needs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

REPOSITORY = "owner/name"


class HubServer(ThreadingHTTPServer):
    """Serves one repository with several commits.

    Attributes:
        commits: folder with the files of each commit.
        refs: commit of each branch and tag; may change while the server runs.
        paths: requested paths in order.
        error: status and X-Error-Code of every reply about the repository, if set.
    """

    daemon_threads = True

    def __init__(self, commits: Mapping[str, Path], refs: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits, self.refs = dict(commits), dict(refs)
        self.error: tuple[int, str] | None = None
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def serve(commits: Mapping[str, Path], refs: Mapping[str, str]) -> Iterator[HubServer]:
    """Runs a server in a thread until the end of the block."""
    server = HubServer(commits, refs)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._respond()

    def do_GET(self) -> None:
        self._respond()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _respond(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.paths.append(path)
        api, files = f"/api/models/{REPOSITORY}", f"/{REPOSITORY}/resolve/"
        if not path.startswith((api + "/", files)):
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif self.server.error is not None:
            status, code = self.server.error
            self._send(status, b"", {"X-Error-Code": code})
        elif path.startswith(f"{api}/revision/"):
            self._send_revision(path.removeprefix(f"{api}/revision/"))
        elif path.startswith(f"{api}/tree/"):
            self._send_tree(path.removeprefix(f"{api}/tree/"))
        else:
            commit, _, name = path.removeprefix(files).partition("/")
            self._send_file(commit, name)

    def _send_revision(self, revision: str) -> None:
        commit = self.server.refs.get(revision)
        if commit is None:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            self._send_json({"id": REPOSITORY, "sha": commit})

    def _send_tree(self, commit: str) -> None:
        if commit not in self.server.commits:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return
        folder = self.server.commits[commit]
        self._send_json(
            [
                {
                    "type": "file",
                    "path": path.relative_to(folder).as_posix(),
                    "size": path.stat().st_size,
                    "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
                }
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            ]
        )

    def _send_file(self, commit: str, name: str) -> None:
        content = (self.server.commits[commit] / name).read_bytes()
        etag = hashlib.sha1(content).hexdigest()
        self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
