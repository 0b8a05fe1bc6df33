"""Measure a server: throughput of concurrent clients, time to the first token, growth over time."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import queue
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from xcomp_jax.data.synthetic.mp4 import encode_mp4
from xcomp_jax.launch.bench.serve_client import Client, Reply, running_server

COLORS = ("red", "green", "blue", "yellow", "white", "black", "gray", "orange", "purple", "cyan")
SHAPES = ("square", "circle", "triangle", "cross", "ring", "bar", "star")
FRAMES = 16

Request = tuple[str, str]
"""A video's id and a question."""


def run(options: argparse.Namespace) -> int:
    """Prints the tables; returns 1 if an answer depends on its neighbours, or memory grows."""
    with (
        tempfile.TemporaryDirectory() as name,
        running_server(Path(name), options.checkpoint, FRAMES) as (port, process_id),
        contextlib.closing(Client(port)) as client,
    ):
        folder = Path(name)
        paths = [_write_video(folder / f"{i}.mp4", seed=i) for i in range(options.videos)]
        videos = [client.watch(client.upload(path), FRAMES) for path in paths]
        if options.soak:
            return _soak(options, port, process_id, folder)
        return _throughput(options, port, videos)


def _throughput(options: argparse.Namespace, port: int, videos: Sequence[str]) -> int:
    """Compares questions one by one with questions of concurrent clients."""
    questions = _questions("object")
    first, second = (
        list(zip(itertools.cycle(videos), itertools.islice(_questions(kind), options.requests)))
        for kind in ("one", "two")
    )
    with _asking(port, options.clients, options.max_tokens) as ask:
        # The first call of each size is slower, even with compiled programs.
        first_calls = itertools.islice(questions, 4 * options.clients)
        ask(list(zip(itertools.cycle(videos), first_calls)), options.clients)
        # Different questions, because the text of an answered question is kept in memory.
        alone = ask(first, 1)
        together = ask(second, options.clients)
        repeated = ask(second, 1)
    different = sum(
        a.text != b.text for a, b in zip(together.replies, repeated.replies, strict=True)
    )
    print("| clients | requests | requests per second | first token p50 | p95 | answer p50 | p95 |")
    print("|---|---|---|---|---|---|---|")
    for count, run_ in ((1, alone), (options.clients, together)):
        print(f"| {count} | {len(run_.replies)} | {run_.row()}")
    ratio = alone.seconds / together.seconds
    print(f"\nthroughput: {ratio:.2f} x one by one; {different} answers differ from those alone")
    return 1 if different else 0


class _Run:
    """Replies of one phase and its wall time."""

    def __init__(self, replies: list[Reply], seconds: float) -> None:
        self.replies, self.seconds = replies, seconds

    def row(self) -> str:
        """Formats rate and percentiles."""
        cells = [f"{len(self.replies) / self.seconds:.1f}"]
        for values in (
            [reply.first_token for reply in self.replies],
            [reply.seconds for reply in self.replies],
        ):
            cells += [f"{np.percentile(values, share) * 1000:.0f} ms" for share in (50, 95)]
        return " | ".join(cells) + " |"


@contextlib.contextmanager
def _asking(
    port: int, clients: int, max_tokens: int
) -> Iterator[Callable[[Sequence[Request], int], _Run]]:
    """Yields a function that sends requests by a number of clients, each with a connection."""
    pool = [Client(port) for _ in range(clients)]
    idle = queue.SimpleQueue[Client]()
    for client in pool:
        idle.put(client)

    def ask(request: Request) -> Reply:
        client = idle.get()
        try:
            return client.ask(*request, max_tokens)
        finally:
            idle.put(client)

    def ask_all(requests: Sequence[Request], count: int) -> _Run:
        begin = time.perf_counter()
        with ThreadPoolExecutor(count) as threads:
            replies = list(threads.map(ask, requests))
        return _Run(replies, time.perf_counter() - begin)

    try:
        yield ask_all
    finally:
        for client in pool:
            client.close()


def _soak(options: argparse.Namespace, port: int, process_id: int, folder: Path) -> int:
    """Uploads, watches, asks and deletes until the time is over; compares memory of its halves."""
    states: list[tuple[float, int]] = []
    deadline = time.monotonic() + 60 * options.soak
    with (
        contextlib.closing(Client(port)) as client,
        _asking(port, options.clients, options.max_tokens) as ask,
    ):
        for cycle in itertools.count():
            path = _write_video(folder / "soak.mp4", seed=cycle)
            file_id = client.upload(path)
            video = client.watch(file_id, FRAMES)
            questions = itertools.islice(_questions(f"shape {cycle}"), 2 * options.clients)
            ask([(video, question) for question in questions], options.clients)
            client.json("DELETE", f"/v1/files/{file_id}")
            states.append((_memory_mb(process_id), _open_files(process_id)))
            if time.monotonic() > deadline and len(states) >= 8:
                break
    quarter = len(states) // 4
    before, after = states[quarter : 2 * quarter], states[-quarter:]
    print("| part | cycles | memory | open files |")
    print("|---|---|---|---|")
    for part, rows in (("second quarter", before), ("last quarter", after)):
        memory = statistics.median(row[0] for row in rows)
        files = max(row[1] for row in rows)
        print(f"| {part} | {len(rows)} | {memory:.0f} MB | {files} |")
    growth = statistics.median(r[0] for r in after) / statistics.median(r[0] for r in before) - 1
    more_files = max(r[1] for r in after) - max(r[1] for r in before)
    print(f"\nmemory {growth:+.1%}, open files {more_files:+d} over {len(states)} videos")
    return 1 if growth > 0.05 or more_files > 4 else 0


def _questions(kind: str) -> Iterator[str]:
    """Yields questions without end, all different."""
    for number in itertools.count():
        color, shape = COLORS[number % len(COLORS)], SHAPES[number % len(SHAPES)]
        yield f"What is the {color} {shape} {kind} number {number} doing?"


def _write_video(path: Path, *, seed: int) -> Path:
    """Writes four seconds of coloured noise."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (32, 12, 16, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    encode_mp4(frames, path, fps=8)
    return path


def _memory_mb(process_id: int) -> float:
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def _open_files(process_id: int) -> int:
    return sum(1 for _ in Path(f"/proc/{process_id}/fd").iterdir())
