"""Clients of a server that a bench starts, in plain HTTP."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

JSON = "application/json"
TIMEOUT = 600
IDLE_SECONDS = 5
"""A connection that was idle longer is opened anew, because servers close idle ones."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """One streamed answer; seconds to the first token and to the last."""

    text: str
    first_token: float
    seconds: float


class Client:
    """One keep-alive connection to a server."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        self._last_use = time.monotonic()

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _response(
        self, method: str, path: str, body: str | bytes | None = None, kind: str = JSON
    ) -> http.client.HTTPResponse:
        if time.monotonic() - self._last_use > IDLE_SECONDS:
            self._connection.close()
        self._connection.request(method, path, body, {"Content-Type": kind})
        response = self._connection.getresponse()
        self._last_use = time.monotonic()
        return response

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """Sends JSON and returns the JSON of the reply.

        Raises:
            ValueError: the server answers with an error.
        """
        data = None if body is None else json.dumps(body)
        return _parsed(self._response(method, path, data))

    def upload(self, path: Path) -> str:
        """Uploads a file and returns its id."""
        boundary = uuid.uuid4().hex
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        )
        data = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        return str(_parsed(self._response("POST", "/v1/files", data, kind))["id"])

    def watch(self, file_id: str, frames: int) -> str:
        """Watches a file and returns the id of the video when it is ready."""
        video = self.json("POST", "/v1/videos", {"file_id": file_id, "num_frames": frames})
        while video["state"] not in ("ready", "failed"):
            time.sleep(0.05)
            video = self.json("GET", f"/v1/videos/{video['id']}")
        if video["state"] == "failed":
            raise ValueError(f"the video failed: {video['error']}")
        return str(video["id"])

    def ask(self, video: str, question: str, max_tokens: int) -> Reply:
        """Streams one answer."""
        begin, first, text = time.perf_counter(), None, ""
        part = {"type": "video_url", "video_url": {"url": f"xcomp://{video}"}}
        content = [part, {"type": "text", "text": question}]
        body = {"messages": [{"role": "user", "content": content}], "stream": True}
        data = json.dumps({**body, "max_tokens": max_tokens})
        response = self._response("POST", "/v1/chat/completions", data)
        if response.status != 200:
            _parsed(response)
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise ValueError(event["error"]["message"])
            for choice in event["choices"]:
                new = choice["delta"].get("content", "")
                if first is None and (new or choice["finish_reason"]):
                    first = time.perf_counter() - begin
                text += new
        return Reply(text, first or 0.0, time.perf_counter() - begin)

    def metrics(self) -> dict[str, float]:
        """Returns the server's metrics without labels."""
        text = self._response("GET", "/metrics").read().decode()
        found = re.findall(r"^(\w+) ([\d.e+]+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}


def _parsed(response: http.client.HTTPResponse) -> Any:
    content = json.loads(response.read())
    if response.status >= 400:
        raise ValueError(f"status {response.status}: {content['error']['message']}")
    return content


@contextlib.contextmanager
def running_server(folder: Path, checkpoint: str | None, frames: int) -> Iterator[tuple[int, int]]:
    """Starts `xcomp serve` with its data in `folder`; yields its port and process id.

    Args:
        frames: number of frames to compile for.
    """
    command = [sys.executable, "-m", "xcomp_jax.cli.main", "serve", "--port", "0"]
    command += ["--warm-up", str(frames)]
    for name in ("data", "store", "cache-dir"):
        command += [f"--{name}", str(folder / name)]
    if checkpoint is not None:
        command += ["--checkpoint", checkpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            match = re.match(r"serving at http://[\d.]+:(\d+)", process.stdout.readline())
            if match is None:
                raise ValueError("the server did not start; its message is above")
            yield int(match[1]), process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
