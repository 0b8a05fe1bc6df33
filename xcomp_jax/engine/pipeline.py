"""Provides a bounded pipeline between host threads and the device.

`read_ahead` advances an iterator in a thread, some items ahead of its consumer. `Writer` runs
calls in a thread, a few calls behind its producer. After an error or Ctrl-C, no thread, process or
queued item outlives the block.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from xcomp_jax.engine.queue_length import Queue, QueueLength

T = TypeVar("T")

PENDING_WRITES = 2
"""Writes queued for the disk."""

_END = object()
"""Ends an iterator."""


@contextlib.contextmanager
def read_ahead(
    items: Iterable[T],
    *,
    length: QueueLength | None = None,
    num_bytes: Callable[[T], int] = lambda item: 0,
) -> Iterator[Iterator[T]]:
    """Yields an iterator over `items` that a thread advances some items ahead.

    An error in `items` is raised in the consumer. When the block ends, normally or by an error, the
    thread stops after its current item and closes `items`.

    Args:
        length: number of items to queue; one more waits for its place. Default: as measured.
        num_bytes: size of an item; at most `QUEUE_BYTES` are queued beyond the shortest length.
    """
    waiting: Queue[tuple[bool, Any]] = Queue(length or QueueLength())

    def produce() -> None:
        source = iter(items)
        try:
            while not waiting.is_closed:
                start = time.perf_counter()
                item = next(source, _END)
                if item is _END:
                    break
                waiting.length.add_production(time.perf_counter() - start)
                waiting.put((True, item), num_bytes(item))  # type: ignore[arg-type]
        except BaseException as error:  # raised in the consumer
            waiting.put((False, error), 0)
        else:
            waiting.put((False, None), 0)
        finally:
            if isinstance(source, Generator):
                source.close()

    def consume() -> Iterator[T]:
        while True:
            is_item, value = waiting.get()
            if not is_item:
                if value is not None:
                    raise value
                return
            start = time.perf_counter()
            yield value
            waiting.length.add_consumption(time.perf_counter() - start)

    # With a copy of the context, the thread's busy time counts in the consumer's open account.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(produce,), name="read-ahead", daemon=True)
    thread.start()
    try:
        yield consume()
    finally:
        waiting.close()
        thread.join()


class Writer:
    """Runs calls in one thread, in order, with at most `PENDING_WRITES` of them queued.

    A context manager. Its exit waits for all submitted writes and raises their first error, or the
    error of the block if that failed.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        self._pending: list[Future[None]] = []

    def __enter__(self) -> Writer:
        return self

    def submit(self, function: Callable[..., None], *args: Any) -> None:
        """Queues `function(*args)`; waits while too many are queued.

        Raises:
            Exception: the error of an earlier call.
        """
        while len(self._pending) >= PENDING_WRITES:
            self._pending.pop(0).result()
        context = contextvars.copy_context()
        self._pending.append(self._pool.submit(context.run, function, *args))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True)
        if error is None:
            for future in self._pending:
                future.result()
