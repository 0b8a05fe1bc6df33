"""Samples the frames of a video file and opens the cache of their clips."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from xcomp_jax import account
from xcomp_jax.config import ConfigError, ModelConfig, SamplingConfig
from xcomp_jax.models.xcomp import Params
from xcomp_jax.token_store import StoreKey, TokenStore, VideoTokens, hash_encoder
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.listing import ListingCache
from xcomp_jax.video.messages import frame_count
from xcomp_jax.video.probe import VideoInfo, probe
from xcomp_jax.video.sampling import READER_CLIP, FramePlan, plan_frames

PREPROCESSING = "bicubic, ImageNet mean and deviation"
"""Part of the key of stored tokens."""

NOTED_REPEATS = 3
"""Mean number of repeats of a frame above which a note is added."""

MAX_REPEATED = 1024
"""Number of frames that may be sampled from a video of any length."""


def sample_frames(
    video: str | Path | VideoInfo,
    config: ModelConfig,
    sampling: SamplingConfig,
    *,
    num_frames: int | None,
    start: float | None,
    end: float | None,
    listings: ListingCache | None = None,
) -> tuple[VideoInfo, FramePlan]:
    """Probes a video and plans the sampled frames.

    Args:
        num_frames: exact number of frames; a shorter video repeats some. Default: by `sampling`.
        start, end: part of the video to sample, in seconds.
        listings: cache of packet lists.

    Raises:
        VideoError: the video cannot be read or cut as requested.
        ConfigError: `num_frames` is not a multiple of the encoder's clip length, or far more than
            the video has.
    """
    clip_frames = config.vision.clip_frames
    if num_frames is not None and (num_frames < 1 or num_frames % clip_frames):
        lower = max(num_frames // clip_frames, 1) * clip_frames
        raise ConfigError(
            f"{num_frames=} is not a positive multiple of {clip_frames}, the encoder's clip "
            f"length; use {lower} or {lower + clip_frames}"
        )
    with account.measure("probe"):
        info = video if isinstance(video, VideoInfo) else probe(video, listings=listings)
        _check_number(num_frames, info)
        plan = plan_frames(
            info,
            fps=sampling.fps,
            min_frames=num_frames or sampling.min_frames,
            max_frames=num_frames or sampling.max_frames,
            # The original rounds to multiples of 8; an explicit number counts in the model's clips.
            clip_frames=READER_CLIP if num_frames is None else clip_frames,
            start=start,
            end=end,
            cut_by=sampling.cut_by,
        )
    if len(plan.indices) % clip_frames:
        raise VideoError(
            info.path,
            f"{len(plan.indices)} frames were sampled, not a multiple of {clip_frames}, the "
            "encoder's clip length",
            "Pass num_frames (--frames) as a multiple of it.",
        )
    distinct = len(set(plan.indices))
    if len(plan.indices) > NOTED_REPEATS * distinct:
        note = (
            f"{len(plan.indices)} frames were sampled from {frame_count(distinct)}: each is "
            f"repeated {len(plan.indices) / distinct:.0f} times"
        )
        info = dataclasses.replace(info, notes=(*info.notes, note))
    return info, plan


def _check_number(num_frames: int | None, info: VideoInfo) -> None:
    """Raises ConfigError if `num_frames` is far more than the video has."""
    if num_frames is not None and num_frames > max(MAX_REPEATED, 2 * info.num_frames):
        raise ConfigError(
            f"{num_frames=} is too many for a video of {frame_count(info.num_frames)}; use at most "
            f"{max(MAX_REPEATED, 2 * info.num_frames)} (--frames)"
        )


class StoredClips:
    """Finds the clips of video files in a token store.

    Stored clips are keyed by video content, sampled frames, preprocessing and encoder parameters.
    """

    def __init__(self, store: TokenStore, config: ModelConfig, params: Params) -> None:
        self._store, self._config, self._params = store, config, params
        self._encoder_hash: str | None = None

    @property
    def listings(self) -> ListingCache:
        """Packet lists of videos probed before."""
        return self._store.listings

    def clip_cache(self, video: VideoInfo, plan: FramePlan, *, verify: bool) -> VideoTokens:
        """Returns the clip cache of one file's sampled frames.

        Args:
            verify: check every stored clip; damaged ones are dropped and encoded again.
        """
        vision, projector = self._config.vision, self._config.projector
        stream = video.stream
        if self._encoder_hash is None:
            self._encoder_hash = hash_encoder(
                {part: self._params[part] for part in ("vision", "projector")},
                {"vision": dataclasses.asdict(vision), "projector": dataclasses.asdict(projector)},
            )
        clips = self._store.video(
            StoreKey.make(
                video_hash=self._store.hash_video(video.path),
                frame_indices=plan.indices,
                image_size=vision.image_size,
                preprocessing=PREPROCESSING if stream is None else f"{PREPROCESSING}, {stream=}",
                encoder_hash=self._encoder_hash,
                clip_frames=vision.clip_frames,
                tokens_per_clip=vision.clip_frames * projector.tokens_per_frame,
                width=self._config.llm.hidden_size,
                dtype=self._config.dtype,
            )
        )
        if verify:
            clips.verify()
        return clips
