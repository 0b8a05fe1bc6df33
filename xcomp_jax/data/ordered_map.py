"""Maps a function over items in threads; results come in order and memory stays bounded."""

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
    """Yields `function(item)` in order; suits work done in subprocesses, such as ffmpeg's.

    At most one result per thread is held at a time, because decoded videos are large. An exception
    is raised at the position of its item; calls that have not started are dropped.

    Args:
        workers: number of threads (default: CPU cores + 1).
        max_workers: upper limit on the number of threads (default: none).
    """
    # One thread more than cores overlaps rendering or writing here with ffmpeg's work.
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
