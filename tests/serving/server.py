"""Starts real servers with a tiny checkpoint, and talks to them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.quick import REPO
from tests.tiny import TINY, tiny_params
from tests.write_video import write_video
from xcomp_jax.config import SamplingConfig
from xcomp_jax.inference.save_model import save_pretrained
from xcomp_jax.text.tokenizer import load_tokenizer

SAMPLING = SamplingConfig(fps=4, min_frames=8, max_frames=32)


def make_checkpoint(folder: Path) -> Path:
    """Writes the tiny model with the built-in tokenizer."""
    if not folder.exists():
        save_pretrained(
            folder, TINY, tiny_params(), tokenizer=load_tokenizer(None), sampling=SAMPLING
        )
    return folder


def make_video(path: Path, *, seconds: int, seed: int) -> Path:
    """Writes coloured noise at 8 frames per second."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (seconds * 8, 6, 8, 3), np.uint8)
    return write_video(path, frames.repeat(8, 1).repeat(8, 2), fps=8)


@dataclasses.dataclass
class Server:
    """A running server and a client without timeouts of its own."""

    process: subprocess.Popen[str]
    url: str
    http: httpx.Client
    log: Path

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        """Posts JSON."""
        return self.http.post(path, json=body, **options)

    def upload(self, path: Path) -> str:
        """Uploads a file and returns its id."""
        with path.open("rb") as file:
            response = self.http.post(
                "/v1/files", files={"file": file}, data={"purpose": "user_data"}
            )
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    def watch(self, **body: Any) -> dict[str, Any]:
        """Watches a video until it is ready or failed."""
        response = self.post("/v1/videos", body)
        assert response.status_code == 202, response.text
        return self.wait(response.json()["id"])

    def wait(self, video_id: str) -> dict[str, Any]:
        """Waits until a video is ready or failed."""
        for _ in range(1200):
            video = self.http.get(f"/v1/videos/{video_id}").json()
            if video["state"] in ("ready", "failed"):
                return dict(video)
            time.sleep(0.05)
        raise AssertionError(video)

    def ask(self, url: str, question: str, **body: Any) -> httpx.Response:
        """Asks one question."""
        part = {"type": "video_url", "video_url": {"url": url}}
        return self.post("/v1/chat/completions", chat(question, part, **body))

    def metrics(self) -> dict[str, float]:
        """Returns the metrics without labels."""
        lines = self.http.get("/metrics").text.splitlines()
        return {
            name: float(value)
            for name, value in (line.split() for line in lines if re.match(r"\w+ [\d.e+]+$", line))
        }

    def memory_bytes(self) -> int:
        """Returns the resident memory of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) << 10

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


def chat(question: str, *parts: dict[str, Any], **body: Any) -> dict[str, Any]:
    """Returns the body of a chat completion with one user message."""
    content = [*parts, {"type": "text", "text": question}]
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 8, **body}


@contextlib.contextmanager
def running_server(
    folder: Path, *options: str, shared: Path | None = None, key: str | None = None
) -> Iterator[Server]:
    """Starts a server whose data lie in `folder`; stops it at the end.

    Args:
        shared: folder of the checkpoint and of compiled programs, for several servers.
    """
    shared = shared or folder
    folder.mkdir(exist_ok=True)
    log = folder / "log.txt"
    command = [sys.executable, "-m", "xcomp_jax.cli.main", "serve", "--port", "0"]
    command += ["--checkpoint", str(make_checkpoint(shared / "checkpoint"))]
    command += ["--data", str(folder / "data"), "--store", str(folder / "store")]
    command += ["--cache-dir", str(shared / "compiled"), *options]
    with (
        log.open("a") as errors,
        subprocess.Popen(
            command, cwd=REPO, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ
        ) as process,
    ):
        try:
            assert process.stdout is not None
            match = re.match(r"serving at (\S+)", process.stdout.readline())
            assert match is not None, log.read_text()
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            with httpx.Client(base_url=match[1], timeout=120, headers=headers) as http:
                yield Server(process, match[1], http, log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(timeout=40)
                except subprocess.TimeoutExpired:
                    process.kill()


def events(response: httpx.Response) -> list[Any]:
    """Returns the data of a stream of server-sent events, with "[DONE]" as text."""
    data = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [text if text == "[DONE]" else json.loads(text) for text in data]
