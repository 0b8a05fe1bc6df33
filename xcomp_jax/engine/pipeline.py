"""Provides a bounded pipeline between host threads and the device.

`read_ahead` advances an iterator in a thread, a few items ahead of its consumer. `Writer` runs
calls in a thread, a few calls behind its producer. After an error or Ctrl-C, no thread, process or
queued item outlives the block.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

READ_AHEAD = 2
"""Batches queued for the device: one hides the transfer, one hides uneven decoding times."""

PENDING_WRITES = 2
"""Writes queued for the disk."""


@contextlib.contextmanager
def read_ahead(items: Iterable[T], *, depth: int = READ_AHEAD) -> Iterator[Iterator[T]]:
    """Yields an iterator over `items` that a thread advances up to `depth` items ahead.

    At most `depth` + 1 items exist that the consumer has not taken. An error in `items` is raised
    in the consumer. When the block ends, normally or by an error, the thread stops after its
    current item and closes `items`.
    """
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(entry: tuple[bool, Any]) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(entry, timeout=0.1)
                return

    def produce() -> None:
        source = iter(items)
        try:
            for item in source:
                put((True, item))
                if stopped.is_set():
                    break
        except BaseException as error:  # raised in the consumer
            put((False, error))
        else:
            put((False, None))
        finally:
            if isinstance(source, Generator):
                source.close()

    def consume() -> Iterator[T]:
        while True:
            is_item, value = waiting.get()
            if is_item:
                yield value
            elif value is None:
                return
            else:
                raise value

    # With a copy of the context, the thread's busy time counts in the consumer's open account.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(produce,), name="read-ahead", daemon=True)
    thread.start()
    try:
        yield consume()
    finally:
        stopped.set()
        with contextlib.suppress(queue.Empty):  # unblocks a thread that waits for a full queue
            waiting.get_nowait()
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
