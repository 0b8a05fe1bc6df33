"""Tests that the pipeline overlaps work, bounds its queues and cleans up after errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from xcomp_jax.account import Account, add_seconds
from xcomp_jax.engine.clips import ArrayFrames, MemoryClipCache, VideoClips
from xcomp_jax.engine.encoder import ClipEncoder
from xcomp_jax.engine.pipeline import Writer, read_ahead
from xcomp_jax.engine.queue_length import QUEUE_BYTES, QueueLength

STEP = 0.05


def background_threads() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith(("read-ahead", "writer"))}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def test_read_ahead_slow_consumer_is_bounded() -> None:
    produced: list[int] = []

    def numbers() -> Iterator[int]:
        for i in range(20):
            produced.append(i)
            yield i

    consumed = []
    with read_ahead(numbers(), length=QueueLength(longest=2)) as items:
        for item in items:
            time.sleep(0.01)
            consumed.append(item)
            # Two items queued, one waiting for the queue, one being produced.
            assert len(produced) <= len(consumed) + 4
    assert consumed == list(range(20))
    assert not background_threads()


def test_read_ahead_source_error_reaches_consumer() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"), read_ahead(failing()) as items:  # noqa: PT012
        assert next(items) == 1
        next(items)
    assert not background_threads()


GAP, PER_BURST, BURSTS = 0.2, 8, 5


def bursts() -> Iterator[int]:
    """Yields as many numbers as the consumer takes in `GAP` seconds, then waits as long."""
    for burst in range(BURSTS):
        yield from range(burst * PER_BURST, (burst + 1) * PER_BURST)
        time.sleep(GAP)


def seconds_of_bursts(length: QueueLength) -> float:
    start = time.perf_counter()
    with read_ahead(bursts(), length=length) as items:
        for _ in items:
            time.sleep(GAP / PER_BURST)
    return time.perf_counter() - start


def test_read_ahead_bursts_are_hidden_by_longer_queue() -> None:
    measured = seconds_of_bursts(QueueLength())
    assert measured < 0.85 * seconds_of_bursts(QueueLength(longest=2)), "control: a fixed length"


def test_queue_length_follows_measured_rates() -> None:
    length = QueueLength(longest=20)
    assert length.items == 2
    length.add_production(0.5)
    length.add_consumption(30.0)  # compiles
    length.add_consumption(0.1)
    assert length.items == 5, "a consumer takes 5 items during the longest production"
    length.add_production(0.05)
    assert length.items == 5
    for _ in range(40):
        length.add_consumption(10.0)
    assert length.items == 2, "the consumer is slower than every production"
    for _ in range(80):
        length.add_consumption(1e-9)
    assert length.items == 20


def test_queue_large_items_are_bounded_by_bytes() -> None:
    length = QueueLength(shortest=2, longest=50)
    length.add_production(100.0)
    length.add_consumption(0.0)
    length.add_consumption(1.0)
    produced: list[int] = []

    def numbers() -> Iterator[int]:
        for i in range(20):
            produced.append(i)
            yield i

    with read_ahead(numbers(), length=length, num_bytes=lambda _: QUEUE_BYTES // 4) as items:
        next(items)
        wait_until(lambda: len(produced) == 6)
        time.sleep(0.05)
    assert len(produced) == 6, "one taken, four queued, one waiting for its place"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_read_ahead_consumer_error_closes_source(error: type[BaseException]) -> None:
    closed = []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.append(True)

    source = endless()  # a reference, so that nothing but a call of close ends it
    with pytest.raises(error), read_ahead(source) as items:  # noqa: PT012
        next(items)
        raise error
    assert closed == [True]
    assert not background_threads()


def test_writer_failed_call_raises_first_error() -> None:
    written: list[int] = []

    def write(number: int) -> None:
        if number == 3:
            raise OSError("no space")
        written.append(number)

    with pytest.raises(OSError, match="no space"), Writer() as writer:  # noqa: PT012
        for number in range(10):
            writer.submit(write, number)
    assert written[:3] == [0, 1, 2]
    assert not background_threads()


class SlowFrames(ArrayFrames):
    """Yields frames slowly, one clip of four frames per `STEP` seconds."""

    def frames(self, indices: Any) -> Iterator[np.ndarray]:
        for frame in super().frames(indices):
            time.sleep(STEP / 4)
            yield frame


class FailingCache(MemoryClipCache):
    """Raises OSError from write number `fail_at` on."""

    def __init__(self, fail_at: int) -> None:
        super().__init__()
        self.num_writes, self.fail_at = 0, fail_at

    def write(self, clips: Any, pixel_hashes: Any = None) -> None:
        self.num_writes += 1
        if self.num_writes >= self.fail_at:
            raise OSError("no space left on device")
        super().write(clips, pixel_hashes)


def slow_clips(num_clips: int, cache: MemoryClipCache) -> VideoClips:
    def program(clips: np.ndarray) -> Any:
        time.sleep(STEP)  # releases the interpreter lock, like a device
        return clips.mean((2, 3, 4))[..., None]

    frames = np.arange(4 * num_clips, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    return VideoClips(
        ClipEncoder(program, clips_per_call=1),
        SlowFrames(frames),
        cache,
        num_frames=len(frames),
        clip_frames=4,
    )


def test_prepare_overlaps_decoding_and_encoding() -> None:
    num_clips = 20
    with Account() as account:
        start = time.perf_counter()
        slow_clips(num_clips, MemoryClipCache()).prepare(range(0, 4 * num_clips, 4))
        wall = time.perf_counter() - start
    # Decoding and encoding take at least this long each; without overlap, twice as long.
    step_seconds = num_clips * STEP
    assert account.seconds["decode video"] >= step_seconds
    assert wall < 1.6 * step_seconds


def test_prepare_failed_write_leaves_no_thread() -> None:
    cache = FailingCache(fail_at=1)
    with pytest.raises(OSError, match="no space left"):
        slow_clips(33, cache).prepare(range(0, 4 * 33, 4))
    assert not background_threads()


def test_prepare_interrupted_stores_encoded_clips() -> None:
    cache = MemoryClipCache()

    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slow_clips(40, cache).prepare(range(0, 160, 4), progress=interrupt)
    assert cache.missing(range(0, 20, 4)) == []
    assert not background_threads()


def test_account_adds_time_of_read_ahead_thread() -> None:
    def items() -> Iterator[int]:
        add_seconds("produce", 1.0)
        yield 1

    with Account() as account, read_ahead(items()) as ahead:
        list(ahead)
    assert account.seconds == {"produce": 1.0}
