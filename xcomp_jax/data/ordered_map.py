"""Maps a function over items in threads, results in order, few of them in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    max_workers: int | None = None,
) -> Iterator[Result]:
    """Yields `function(item)` in order; meant for work done in subprocesses, such as ffmpeg's.

    At most one result per thread waits at a time, whatever the number of items, because a decoded
    video is large. An exception reaches the caller at its item's turn; calls not begun are dropped.

    Args:
        workers: threads; default: one more than cores. max_workers: but no more than that.
    """
    # One thread more than cores, so that drawing or writing here overlaps with ffmpeg there.
    workers = (os.cpu_count() or 1) + 1 if workers is None else workers
    if max_workers is not None:
        workers = max(1, min(workers, max_workers))
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) == workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
