"""Tests that frames resized in threads equal those resized one by one."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from xcomp_jax.video.ppm import Frame, Frames
from xcomp_jax.video.preprocess import resize_bicubic
from xcomp_jax.video.resizing import resized

SIZE, COUNT = 32, 40


def pictures() -> list[Frame]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (48, 60 + i, 3), np.uint8) for i in range(COUNT)]


def resize_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("resize")]


def stream(frames: list[Frame], read: list[int]) -> Frames:
    for number, frame in enumerate(frames):
        read.append(number)
        yield frame


@pytest.mark.parametrize("workers", [1, 3])
def test_resized_any_workers_equals_one_by_one(workers: int) -> None:
    frames = pictures()
    frames[7] = frames[6]  # a lost frame repeats the array of its neighbour
    small = list(resized(stream(frames, []), SIZE, workers=workers))
    expected = [resize_bicubic(frame, SIZE) for frame in frames]
    np.testing.assert_array_equal(small, expected)
    assert (np.stack(small[1:]) != np.stack(expected[:-1])).any(), "control: off by one frame"
    assert small[7] is small[6]
    assert not resize_threads()


def test_resized_slow_consumer_is_bounded() -> None:
    read: list[int] = []
    frames = resized(stream(pictures(), read), SIZE, workers=2)
    for count, _ in enumerate(frames, start=1):
        assert len(read) <= count + 4
    assert not resize_threads()


def test_resized_closed_early_closes_source() -> None:
    closed = []

    def source() -> Iterator[Frame]:
        try:
            yield from pictures()
        finally:
            closed.append(True)

    frames = resized(source(), SIZE, workers=2)  # type: ignore[arg-type]
    next(frames)
    frames.close()
    assert closed == [True]
    assert not resize_threads()
