"""Turns a client's number and rate of frames into a plan of sampled frames.

One rule serves all dialects: `num_frames` alone is exact; `fps` sets the rate; `max_frames`, and
`num_frames` beside `fps`, bound the number that a rate gives. Numbers are rounded to whole clips.
"""

from __future__ import annotations

import dataclasses

from xcomp_jax.config import ModelConfig, SamplingConfig
from xcomp_jax.inference.video_input import sample_frames
from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.settings import Limits
from xcomp_jax.video.indices import READER_CLIP
from xcomp_jax.video.messages import frame_count
from xcomp_jax.video.probe import VideoInfo
from xcomp_jax.video.sampling import FramePlan, plan_frames


@dataclasses.dataclass(frozen=True)
class FrameRequest:
    """Requested frames of one video; None follows the checkpoint's sampling."""

    num_frames: int | None = None
    fps: float | None = None
    max_frames: int | None = None

    @property
    def is_default(self) -> bool:
        """True if nothing is requested."""
        return self == FrameRequest()

    @property
    def exact(self) -> int | None:
        """Number of frames, if it does not depend on the video."""
        return None if self.fps is not None else self.num_frames

    @property
    def most(self) -> int | None:
        """Bound on the number of frames."""
        bounds = [self.max_frames, self.num_frames if self.fps is not None else None]
        given = [bound for bound in bounds if bound is not None]
        return min(given) if given else None


def plan_of(
    info: VideoInfo,
    request: FrameRequest,
    config: ModelConfig,
    sampling: SamplingConfig,
    limits: Limits,
    *,
    is_list: bool = False,
) -> tuple[FramePlan, str]:
    """Plans the frames of a probed video; nothing is decoded.

    Args:
        is_list: the client chose the frames itself; all are used unless it requests fewer.

    Returns:
        The plan, and a sentence that states the rule behind it.

    Raises:
        ApiError: there are more frames than the server's limit.
    """
    clip = config.vision.clip_frames
    exact, most = request.exact, request.most
    if is_list and request.is_default:
        _check_count(info.num_frames, limits)
        return _whole_list(info, clip)
    if exact is not None:
        count = _rounded_up(exact if most is None else min(exact, most), clip)
        _check_count(count, limits)
        _, plan = sample_frames(info, config, sampling, num_frames=count, start=None, end=None)
        rule = f"num_frames={count}"
        if count != exact:
            rule += f" (requested: {exact}; whole clips of {clip} frames are encoded)"
        return plan, rule
    fps = float(sampling.fps if request.fps is None else request.fps)
    highest = sampling.max_frames if most is None else max(clip, most // clip * clip)
    lowest = min(sampling.min_frames if request.fps is None else clip, highest)
    # Clips of the reader's length first, as in the original; few frames count in the model's clips.
    unit = READER_CLIP if highest >= READER_CLIP and READER_CLIP % clip == 0 else clip
    _check_count(min(highest, max(lowest, int(info.duration * fps))), limits)
    plan = plan_frames(info, fps=fps, min_frames=lowest, max_frames=highest, clip_frames=unit)
    rate = f"{fps:g} {'frame' if fps == 1 else 'frames'} per second"
    return plan, f"{rate}, from {lowest} to {highest} frames"


def _whole_list(info: VideoInfo, clip: int) -> tuple[FramePlan, str]:
    """Plans every frame of a list; the last one is repeated to fill its clip."""
    count = _rounded_up(info.num_frames, clip)
    indices = tuple(min(index, info.num_frames - 1) for index in range(count))
    times = tuple(float(info.times[index]) for index in indices)
    rule = f"all {frame_count(info.num_frames)} of the list"
    if count > info.num_frames:
        rule += f", the last repeated to fill a clip of {clip}"
    return FramePlan(indices, info.duration, count, times), rule


def _rounded_up(count: int, clip: int) -> int:
    return -(-count // clip) * clip


def _check_count(count: int, limits: Limits) -> None:
    if count > limits.max_frames:
        raise ApiError(
            413,
            f"the request would encode {count:,} frames, more than this server's limit of "
            f"{limits.max_frames:,}; pass a smaller num_frames, fps or max_frames",
            param="num_frames",
            code="too_many_frames",
        )
