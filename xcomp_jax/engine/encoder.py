"""Encodes a stream of clips while later clips are decoded and earlier clips are stored."""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from jax import Array

from xcomp_jax import account
from xcomp_jax.engine.pipeline import read_ahead

Key = TypeVar("Key")

CLIPS_PER_DEVICE = 4
"""Clips per call and device: enough to fill it, with UMT-L at 448 px below 2 GB."""

IN_FLIGHT = 2
"""Calls dispatched at a time; with a single call, the device would idle during transfers."""


class ClipEncoder:
    """Runs a compiled encoder on a fixed number of clips per call.

    Args:
        program: maps uint8 clips [C, T, X, X, 3] to tokens [C, N, D] on the device, where C is
            `clips_per_call`.
    """

    def __init__(self, program: Callable[[np.ndarray], Array], clips_per_call: int) -> None:
        self.clips_per_call = clips_per_call
        self._program = program

    def encode(self, clips: np.ndarray) -> np.ndarray:
        """Encodes any number of uint8 clips [C, T, X, X, 3] into [C, N, D] on the host."""
        return np.stack([tokens for _, tokens in self.stream(enumerate(clips))])

    def stream(self, clips: Iterable[tuple[Key, np.ndarray]]) -> Iterator[tuple[Key, np.ndarray]]:
        """Yields the tokens [N, D] of each keyed clip [T, X, X, 3], in order.

        A thread advances `clips` a bounded number of clips ahead; the device runs one call while
        the results of the previous call are consumed. The last call is padded with black clips, so
        that any number of clips uses the same compiled program.
        """
        in_flight: collections.deque[tuple[list[Key], Array, float]] = collections.deque()
        device_free = 0.0

        def results() -> Iterator[tuple[Key, np.ndarray]]:
            nonlocal device_free
            keys, tokens, dispatched = in_flight.popleft()
            host_tokens = np.asarray(tokens)
            now = time.perf_counter()
            account.add_seconds("encode clips", now - max(dispatched, device_free))
            account.count("clips encoded", len(keys))
            device_free = now
            yield from zip(keys, host_tokens, strict=False)  # padding clips have no key

        with read_ahead(self._batches(clips)) as batches:
            for keys, pixels in batches:
                dispatched = time.perf_counter()  # the first call also compiles
                in_flight.append((keys, self._program(pixels), dispatched))
                if len(in_flight) == IN_FLIGHT:
                    yield from results()
            while in_flight:
                yield from results()

    def _batches(
        self, clips: Iterable[tuple[Key, np.ndarray]]
    ) -> Iterator[tuple[list[Key], np.ndarray]]:
        source = iter(clips)
        while True:
            with account.measure("decode video"):
                batch = list(itertools.islice(source, self.clips_per_call))
            if not batch:
                return
            keys = [key for key, _ in batch]
            pixels = np.zeros((self.clips_per_call, *batch[0][1].shape), np.uint8)
            for slot, (_, clip) in zip(pixels, batch, strict=False):
                slot[:] = clip
            yield keys, pixels
