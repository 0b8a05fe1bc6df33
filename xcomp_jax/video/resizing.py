"""Resizes a stream of frames on several cores, in order and with bounded memory."""

from __future__ import annotations

import collections
import contextlib
from concurrent.futures import Future, ThreadPoolExecutor

from xcomp_jax.video.ppm import Frame, Frames
from xcomp_jax.video.preprocess import resize_bicubic

WAITING_BYTES = 256 << 20
"""Memory of the frames of native size that wait to be resized."""


def resized(frames: Frames, size: int, *, workers: int) -> Frames:
    """Yields each frame as uint8 [size, size, 3], by `preprocess.resize_bicubic`.

    Pillow releases the interpreter lock, so threads resize side by side. An array that is repeated,
    as that of a lost frame's neighbour, is resized once and repeated.

    Args:
        workers: number of threads; 1 resizes in the calling thread.
    """
    with contextlib.closing(frames):
        if workers == 1:
            last: Frame | None = None
            for frame in frames:
                if last is None or frame is not last:
                    last, small = frame, resize_bicubic(frame, size)
                yield small
        else:
            yield from _in_threads(frames, size, workers)


def _in_threads(frames: Frames, size: int, workers: int) -> Frames:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="resize")
    waiting: collections.deque[Future[Frame]] = collections.deque()
    last: Frame | None = None
    try:
        for frame in frames:
            if last is None or frame is not last:
                last, future = frame, pool.submit(resize_bicubic, frame, size)
            waiting.append(future)
            if len(waiting) > min(2 * workers, WAITING_BYTES // frame.nbytes):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
