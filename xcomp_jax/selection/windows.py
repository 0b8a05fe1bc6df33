"""Places QC-Comp's windows over a video, and segments inside a window.

Windows cover a long video in several rounds, each shifted, so that every frame is scored in
different clips and contexts. Within a window, clips are scored by the attention from the question
to them inside short segments (`ops.clip_scores`). All functions take plain numbers, known before
tracing (paper 3.3; docs/reference_behaviour.md#qc-comp).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xcomp_jax.config import ConfigError, SelectionConfig
from xcomp_jax.ops.clip_scores import Segments

SCORE_CLIP_FRAMES = 8
"""Frames that share one score, independent of the encoder's clip length."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows over a video of `num_frames` frames.

    Window w holds frames (starts[w] + i) modulo num_frames for i below `length`; a window may wrap
    around from the end of the video to its beginning.
    """

    num_frames: int
    length: int
    starts: tuple[int, ...]

    @property
    def num_clips(self) -> int:
        """Number of score clips of one window."""
        return self.length // SCORE_CLIP_FRAMES

    def clip_starts(self, window: int, clip_frames: int) -> tuple[int, ...]:
        """Returns the first frame of each encoder clip in one window."""
        first = self.starts[window]
        return tuple((first + i) % self.num_frames for i in range(0, self.length, clip_frames))


def plan_windows(config: SelectionConfig, num_frames: int) -> Windows:
    """Places the windows over a video so that every frame gets a score.

    `config.repeats` rounds cover the video, each shifted by window/repeats + 8/repeats frames
    against the previous round, so that its clips are cut differently. With `granularity="clip"`, a
    departure (docs/departures.md), the shift is rounded down to whole clips, so that all windows
    share the same clips.

    Raises:
        ConfigError: the video is too short for one segment.
    """
    segments = config.scope == "segments"
    min_length = SCORE_CLIP_FRAMES * (config.segment_clips if segments else 1)
    if num_frames < min_length:
        scored = f"segment_clips={config.segment_clips}" if segments else "scope='global'"
        raise ConfigError(
            f"selection.{scored}: clips of {SCORE_CLIP_FRAMES} frames need a video of at least "
            f"{min_length} frames, this video has {num_frames}; use {min_length} frames or more "
            "(--frames), shorter segments (--segment) or no selection (--select all)"
        )
    shift = SCORE_CLIP_FRAMES // config.repeats + config.window_frames // config.repeats
    if config.granularity == "clip":
        shift = shift // SCORE_CLIP_FRAMES * SCORE_CLIP_FRAMES
    margin = 2 * SCORE_CLIP_FRAMES * config.segment_stride if segments else 0
    step, length = config.window_frames, config.window_frames + margin
    if length > num_frames:
        # The original never scores videos this short. The window is the whole video, rotated until
        # every frame has been in the part that most segments cover.
        clips = covered = num_frames // SCORE_CLIP_FRAMES
        if segments:
            further_segments = max(clips - config.segment_clips, 0) // config.segment_stride
            covered = further_segments * config.segment_stride or config.segment_clips
        step = covered * SCORE_CLIP_FRAMES
        length = num_frames
    length = max(length, min_length)
    rounds = -(-num_frames // step)
    starts = tuple(
        (i * step + i // rounds * shift) % num_frames for i in range(config.repeats * rounds)
    )
    return _completed(Windows(num_frames, length, starts), config)


def _completed(windows: Windows, config: SelectionConfig) -> Windows:
    """Adds windows until every frame is in a scored clip.

    The original fails where a frame has no score; the published settings leave none.
    """
    segments = plan_segments(config, num_clips=windows.num_clips, visual_tokens=windows.num_clips)
    frames_in_window = np.repeat(scored_clips(segments), SCORE_CLIP_FRAMES).nonzero()[0]
    has_score = np.zeros(windows.num_frames, bool)
    starts = list(windows.starts)
    for start in starts:
        has_score[(start + frames_in_window) % windows.num_frames] = True
    while not has_score.all():
        start = int(has_score.argmin() - frames_in_window[0]) % windows.num_frames
        has_score[(start + frames_in_window) % windows.num_frames] = True
        starts.append(start)
    return dataclasses.replace(windows, starts=tuple(starts))


def scored_clips(segments: Segments) -> np.ndarray:
    """Marks the clips that get a score, bool [num_clips].

    Clips in fewer segments than others (at both ends of a window) get none, as in the original.
    """
    covered = np.zeros(segments.num_clips, int)
    for number in range(segments.count):
        covered[number * segments.stride : number * segments.stride + segments.size] += 1
    return covered == covered.max()


def plan_segments(config: SelectionConfig, *, num_clips: int, visual_tokens: int) -> Segments:
    """Places the segments of a window of `num_clips` score clips and `visual_tokens` tokens.

    With `scope="global"`, the whole window is one segment. Tokens that do not divide among the
    clips are left over at the end of the window.

    Raises:
        ConfigError: a window has fewer clips than a segment.
    """
    tokens = visual_tokens // max(num_clips, 1)
    if config.scope == "global":
        return Segments(num_clips, tokens, size=num_clips, stride=num_clips)
    if num_clips < config.segment_clips:
        raise ConfigError(
            f"selection.segment_clips={config.segment_clips} is more than the {num_clips} clips of "
            "a window; use shorter segments (--segment) or longer windows (selection.window_frames)"
        )
    return Segments(num_clips, tokens, size=config.segment_clips, stride=config.segment_stride)
