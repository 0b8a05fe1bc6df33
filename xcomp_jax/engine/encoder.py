"""Encodes a stream of clips while later clips are decoded and earlier clips are stored."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np
from jax import Array

from xcomp_jax import account
from xcomp_jax.engine.pipeline import read_ahead

Key = TypeVar("Key")

CLIPS_PER_DEVICE = 4
"""Clips per call and device: enough to fill it, with UMT-L at 448 px below 2 GB."""

MAX_ENTRIES = 8
"""Clips taken for one call, in multiples of the clips that it encodes; the others need no encoding.
Bounds the time without results in a video of repeated clips."""

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
        return np.stack(
            [tokens for _, tokens in self.stream(enumerate(clips)) if tokens is not None]
        )

    def stream(
        self, clips: Iterable[tuple[Key, np.ndarray | None]]
    ) -> Iterator[tuple[Key, np.ndarray | None]]:
        """Yields the tokens [N, D] of each keyed clip [T, X, X, 3], in order.

        A clip without pixels (None) needs no encoding; its place in the order is kept, so that it
        comes after every clip before it, with None for its tokens.

        A thread advances `clips` a bounded number of clips ahead; the device runs one call while
        the results of the previous call are consumed. A call that is not full is padded with black
        clips, so that any number of clips uses the same compiled program.
        """
        in_flight: collections.deque[tuple[_Call[Key], Array | None, float]] = collections.deque()
        device_free = 0.0

        def results() -> Iterator[tuple[Key, np.ndarray | None]]:
            nonlocal device_free
            call, tokens, dispatched = in_flight.popleft()
            host_tokens: Iterator[np.ndarray] = iter(())
            if tokens is not None:
                host_tokens = iter(np.asarray(tokens))
                now = time.perf_counter()
                account.add_seconds("encode clips", now - max(dispatched, device_free))
                account.count("clips encoded", sum(call.has_pixels))
                device_free = now
            for key, has_pixels in zip(call.keys, call.has_pixels, strict=True):
                yield key, next(host_tokens) if has_pixels else None

        with read_ahead(self._calls(clips), num_bytes=_Call.num_bytes) as calls:
            for call in calls:
                dispatched = time.perf_counter()  # the first call also compiles
                tokens = None if call.pixels is None else self._program(call.pixels)
                in_flight.append((call, tokens, dispatched))
                if len(in_flight) == IN_FLIGHT:
                    yield from results()
            while in_flight:
                yield from results()

    def _calls(self, clips: Iterable[tuple[Key, np.ndarray | None]]) -> Iterator[_Call[Key]]:
        source = iter(clips)
        while True:
            with account.measure("decode video"):
                entries = self._entries(source)
            if not entries:
                return
            pixels = self._padded([clip for _, clip in entries if clip is not None])
            keys, has_pixels = zip(*((key, clip is not None) for key, clip in entries), strict=True)
            yield _Call(keys, has_pixels, pixels)

    def _entries(
        self, source: Iterator[tuple[Key, np.ndarray | None]]
    ) -> list[tuple[Key, np.ndarray | None]]:
        """Takes clips until a call is full, or many need no encoding."""
        entries: list[tuple[Key, np.ndarray | None]] = []
        count = 0
        while count < self.clips_per_call and len(entries) < MAX_ENTRIES * self.clips_per_call:
            entry = next(source, None)
            if entry is None:
                break
            entries.append(entry)
            count += entry[1] is not None
        return entries

    def _padded(self, clips: Sequence[np.ndarray]) -> np.ndarray | None:
        if not clips:
            return None
        pixels = np.zeros((self.clips_per_call, *clips[0].shape), np.uint8)
        for slot, clip in zip(pixels, clips, strict=False):
            slot[:] = clip
        return pixels


@dataclasses.dataclass(frozen=True)
class _Call(Generic[Key]):
    """Clips of one call of the program, and those between them that need no encoding.

    has_pixels: whether each clip is among `pixels`, which hold a full call of clips, or None.
    """

    keys: tuple[Key, ...]
    has_pixels: tuple[bool, ...]
    pixels: np.ndarray | None

    def num_bytes(self) -> int:
        """Returns the bytes of the pixels."""
        return 0 if self.pixels is None else self.pixels.nbytes
