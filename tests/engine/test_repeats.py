"""Tests that clips with equal pixels are encoded once, in memory, in a store and in live videos."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.token_store.examples import example_key
from xcomp_jax.account import Account
from xcomp_jax.engine.clip_batch import ClipCache
from xcomp_jax.engine.clips import ArrayFrames, MemoryClipCache, VideoClips
from xcomp_jax.engine.encoder import ClipEncoder
from xcomp_jax.inference.live import GrowingClipCache
from xcomp_jax.token_store import TokenStore, VideoTokens

CLIP = 4
SLIDES = (3, 3, 7, 3, 7, 9, 9, 3)
"""Grey level of every frame of each clip."""


def slides(levels: Iterable[int] = SLIDES) -> np.ndarray:
    pixels = np.repeat(np.array(tuple(levels), np.uint8), CLIP)
    return pixels[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)


def encoder(encoded: list[np.ndarray] | None = None) -> ClipEncoder:
    """Builds an encoder whose tokens [4, 2] differ for any two clips of other pixels."""

    def program(clips: np.ndarray) -> Any:
        if encoded is not None:
            encoded.append(clips)
        weights = np.arange(1, clips[0, 0].size + 1, dtype=np.float32).reshape(clips.shape[2:])
        sums = (clips * weights).sum((2, 3, 4))
        return np.stack([sums, -sums], axis=-1).astype(np.float32)

    return ClipEncoder(program, clips_per_call=2)


def video_clips(pixels: np.ndarray, cache: ClipCache) -> VideoClips:
    return VideoClips(
        encoder(), ArrayFrames(pixels), cache, num_frames=len(pixels), clip_frames=CLIP
    )


def starts_of(pixels: np.ndarray) -> range:
    return range(0, len(pixels), CLIP)


def one_by_one(pixels: np.ndarray) -> np.ndarray:
    """Returns the tokens of every clip, each encoded for itself."""
    clips = pixels.reshape(-1, CLIP, *pixels.shape[1:])
    return np.concatenate([encoder().encode(clip[None]) for clip in clips])


def stored(tmp_path: Path, pixels: np.ndarray) -> VideoTokens:
    key = example_key(
        frame_indices=range(len(pixels)), clip_frames=CLIP, tokens_per_clip=CLIP, width=2
    )
    return TokenStore(tmp_path).video(key)


@pytest.mark.parametrize("kind", ["memory", "store"])
def test_prepare_repeated_clips_are_encoded_once(tmp_path: Path, kind: str) -> None:
    pixels = slides()
    cache = MemoryClipCache() if kind == "memory" else stored(tmp_path, pixels)
    done = []
    with Account() as account:
        video_clips(pixels, cache).prepare(
            starts_of(pixels), progress=lambda *count: done.append(count)
        )
    assert account.work == {"clips reused": 0, "clips encoded": 3, "clips repeated": 5}
    assert done == [(i, 8) for i in range(1, 9)]
    clips = cache.read(starts_of(pixels))
    np.testing.assert_array_equal(np.stack(list(clips.values())), one_by_one(pixels))
    assert cache.missing(starts_of(pixels)) == [], "a repeated clip is stored under its own start"


def test_prepare_one_other_pixel_value_is_encoded() -> None:
    pixels = slides()
    pixels[5, 3, 2, 1] += 1
    cache = MemoryClipCache()
    with Account() as account:
        video_clips(pixels, cache).prepare(starts_of(pixels))
    assert account.work["clips encoded"] == 4
    tokens = cache.read([0, CLIP])
    assert (tokens[0] != tokens[CLIP]).any()
    np.testing.assert_array_equal(tokens[CLIP], one_by_one(pixels)[1])


def test_prepare_other_order_of_frames_is_encoded() -> None:
    pixels = slides([0, 0])
    pixels[:CLIP] += np.arange(CLIP, dtype=np.uint8)[:, None, None, None]
    pixels[CLIP:] = pixels[:CLIP][::-1]
    with Account() as account:
        video_clips(pixels, MemoryClipCache()).prepare(starts_of(pixels))
    assert account.work["clips encoded"] == 2


def test_prepare_still_video_fills_few_calls() -> None:
    pixels, calls = slides([5] * 40), []
    clips = VideoClips(
        encoder(calls),
        ArrayFrames(pixels),
        MemoryClipCache(),
        num_frames=len(pixels),
        clip_frames=CLIP,
    )
    clips.prepare(starts_of(pixels))
    assert len(calls) == 1


def test_prepare_resumed_run_reuses_stored_pixels(tmp_path: Path) -> None:
    pixels = slides()

    def stop(done: int, total: int) -> None:
        if done == 3:  # slides 3, 3, 7
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video_clips(pixels, stored(tmp_path, pixels)).prepare(starts_of(pixels), progress=stop)
    cache = stored(tmp_path, pixels)  # as another process opens it
    with Account() as account:
        video_clips(pixels, cache).prepare(starts_of(pixels))
    assert account.work == {"clips reused": 3, "clips encoded": 1, "clips repeated": 4}
    clips = cache.read(starts_of(pixels))
    np.testing.assert_array_equal(np.stack(list(clips.values())), one_by_one(pixels))


def test_tokens_cut_clip_equal_to_stored_is_copied(tmp_path: Path) -> None:
    pixels = slides()
    cache = stored(tmp_path, pixels)
    clips = video_clips(pixels, cache)
    clips.prepare(starts_of(pixels))
    cut = [(0, 5, 13, 30), (8, 10, 16, 19), (0, 1, 8, 9), (1, 2, 9, 10)]  # 3s, 7s, mixed twice
    with Account() as account:
        tokens = clips.tokens(cut)
    assert account.work == {"clips reused": 0, "clips encoded": 1, "clips repeated": 3}
    np.testing.assert_array_equal(tokens, one_by_one(pixels[np.concatenate(cut)]))


def test_tokens_lost_original_is_encoded_again(tmp_path: Path) -> None:
    pixels = slides()
    cache = stored(tmp_path, pixels)
    clips = video_clips(pixels, cache)
    clips.prepare(starts_of(pixels))
    read = cache.read
    cache.read = lambda starts: {} if 0 < len(list(starts)) < 3 else read(starts)  # type: ignore[method-assign]
    with Account() as account:
        tokens = clips.tokens([(0, 5, 13, 30)])
    assert account.work["clips encoded"] == 1
    np.testing.assert_array_equal(tokens, one_by_one(pixels[[0, 5, 13, 30]]))


def test_growing_cache_copies_from_both_parts() -> None:
    permanent, pixels = MemoryClipCache(), slides([3, 3, 7])
    with Account() as account:
        video_clips(pixels[: 2 * CLIP], permanent).prepare([0])
        growing = GrowingClipCache(permanent, 2 * CLIP, CLIP)
        video_clips(pixels[: 2 * CLIP], growing).prepare([0, 1, 6])
        permanent.write({2 * CLIP: np.zeros((CLIP, 2), np.float32)}, {2 * CLIP: "later"})
    assert account.work == {"clips reused": 1, "clips encoded": 1, "clips repeated": 2}
    assert growing.missing([1, 6]) == []
    assert permanent.missing([1, 6]) == [6], "a clip that wraps around is kept for this length only"
    assert "later" not in growing.by_pixel_hash(), "control: beyond the frames of this length"
