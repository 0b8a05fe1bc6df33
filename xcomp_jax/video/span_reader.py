"""Reads the spans of a video side by side, and yields their frames in order.

Memory is bounded: at most `2 * workers` spans are in progress, and a span's number of frames is
limited by `max_span_frames`.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import itertools
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from xcomp_jax.video.decoders import DECODERS, Share
from xcomp_jax.video.packets import PacketList
from xcomp_jax.video.ppm import Frame
from xcomp_jax.video.read_plan import Span
from xcomp_jax.video.span_process import TimedFrames, span_frames

WAITING_BYTES = 256 << 20
"""Most bytes of frames that wait for their turn."""

Waiting = queue.SimpleQueue[tuple[int, Frame] | Exception | None]
"""Ticks and frames of one span; then None, or the error that ended it."""


def max_span_frames(frame_bytes: int, workers: int) -> int:
    """Returns the largest number of frames of a span, by the bytes of one."""
    return max(4, min(128, WAITING_BYTES // (2 * workers * max(frame_bytes, 1))))


class SpanReader:
    """Reads spans of one video file.

    Args:
        size: side to which ffmpeg scales the frames; None keeps the native size.
        transform: is applied to each frame beside the decoder.
        workers: largest number of decoder processes.
        timeout: longest time for a frame, in seconds.
    """

    def __init__(
        self,
        path: Path,
        packets: PacketList,
        *,
        size: int | None,
        transform: Callable[[Frame], Frame],
        workers: int,
        timeout: float,
    ) -> None:
        self._path, self._packets = path, packets
        self._size, self._transform = size, transform
        self._workers, self._timeout = workers, timeout
        self._closed = threading.Event()
        self._processes: set[subprocess.Popen[bytes]] = set()

    def frames(self, spans: Sequence[Span]) -> TimedFrames:
        """Yields (tick, frame) of all spans in order; use a reader once.

        Raises:
            SpanError: as `span_frames`.
            VideoError: as `span_frames`.
        """
        threads = max(1, self._workers // len(spans))
        coming, running = iter(spans), collections.deque[Waiting]()
        with contextlib.ExitStack() as stack:
            share = stack.enter_context(DECODERS.reader())
            pool = concurrent.futures.ThreadPoolExecutor(self._workers, "spans")
            stack.callback(pool.shutdown, cancel_futures=True)
            stack.callback(self._close)

            def start(count: int) -> None:
                for span in itertools.islice(coming, count):
                    running.append(queue.SimpleQueue())
                    pool.submit(self._read, span, running[-1], share, threads)

            start(2 * self._workers)
            while running:
                yield from _taken(running[0])
                running.popleft()
                start(1)

    def _read(self, span: Span, waiting: Waiting, share: Share, threads: int) -> None:
        """Puts a span's frames into `waiting`."""
        end: Exception | None = None
        with share.decoder():
            if self._closed.is_set():  # Nobody takes from `waiting` any more.
                return
            frames = span_frames(
                self._path,
                self._packets,
                span,
                size=self._size,
                threads=threads,
                timeout=self._timeout,
                started=self._started,
            )
            try:
                for tick, frame in frames:
                    waiting.put((tick, self._transform(frame)))
                    if self._closed.is_set():
                        break
            except Exception as error:  # The consumer raises it.
                end = error
            finally:
                frames.close()
        waiting.put(end)

    def _started(self, process: subprocess.Popen[bytes]) -> None:
        self._processes.add(process)
        if self._closed.is_set():
            process.kill()

    def _close(self) -> None:
        self._closed.set()
        for process in list(self._processes):
            process.kill()


def _taken(waiting: Waiting) -> Iterator[tuple[int, Frame]]:
    while (item := waiting.get()) is not None:
        if isinstance(item, Exception):
            raise item
        yield item
