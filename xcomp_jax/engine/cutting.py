"""Cuts a stream of frames into clips, and hashes their pixels to find repeated clips."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from xcomp_jax.video.ppm import Frame

Item = TypeVar("Item")

Clip = tuple[int, ...]
"""The frames of a clip, as indices into the list of sampled frames."""

HashedFrame = tuple[Frame, bytes]
"""A frame and the hash of its pixels."""


def cut_clips(
    indices: Sequence[int], frames: Iterator[Item], clips: Sequence[Clip]
) -> Iterator[tuple[int, list[Item]]]:
    """Yields the number and the frames of each clip once its last frame is read.

    Only frames of unfinished clips are held.

    Args:
        frames: in the order of `indices`, which cover every frame of `clips`.
    """
    uses: dict[int, list[tuple[int, int]]] = collections.defaultdict(list)
    for number, clip in enumerate(clips):
        for slot, index in enumerate(clip):
            uses[index].append((number, slot))
    unfinished: dict[int, dict[int, Item]] = collections.defaultdict(dict)
    for index, frame in zip(indices, frames, strict=True):
        for number, slot in uses[index]:
            unfinished[number][slot] = frame
            if len(unfinished[number]) == len(clips[number]):
                finished = unfinished.pop(number)
                yield number, [finished[i] for i in range(len(finished))]


def hashed_frames(frames: Iterable[Frame]) -> Iterator[HashedFrame]:
    """Yields each frame with the hash of its pixels; consecutive equal arrays are hashed once."""
    last, digest = None, b""
    for frame in frames:
        if frame is not last:
            last, digest = frame, hashlib.sha256(np.ascontiguousarray(frame).data).digest()
        yield frame, digest


def pixel_hash(clip: Sequence[HashedFrame]) -> str:
    """Returns the hash of a clip, 64 hexadecimal digits; equal only for equal pixels in order.

    A hash of hashes, so that clips that share frames do not hash them again.
    """
    return hashlib.sha256(b"".join(digest for _, digest in clip)).hexdigest()
