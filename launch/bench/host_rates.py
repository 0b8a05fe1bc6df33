"""Measure how fast one core decodes videos and reads stored features, and count cores per pod.

Rates are in processor time of this process and its children, so that other load on the machine
hardly changes them.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from xcomp_jax.config import ExperimentConfig, SamplingConfig, from_dict
from xcomp_jax.configs import xcomp_2b
from xcomp_jax.data.prepared.sampled_video import VideoView, read_sampled_video
from xcomp_jax.data.synthetic.mp4 import encode_mp4
from xcomp_jax.flops import training_flops
from xcomp_jax.peaks import PEAKS
from xcomp_jax.token_store import StoreKey, TokenStore

# The name of a v5p-64 counts two cores per chip.
V5P_64_CHIPS = 32
ASSUMED_MFU = 0.4
TEXT_TOKENS = 863


def decoding_rate(folder: Path, frames: int = 256) -> float:
    """Returns the 720p frames per second that one core decodes and resizes to 448 px."""
    path = folder / "film.mp4"
    if not path.exists():
        encode_mp4(_moving_noise(frames), path, fps=8)
    sampling = SamplingConfig(fps=8, min_frames=8, max_frames=frames)
    view = VideoView(sampling=sampling, image_size=448, clip_frames=8)
    spent = _processor_seconds(lambda: read_sampled_video(path, view))
    return frames / spent


def reading_rate(folder: Path, times: int = 5) -> float:
    """Returns the bytes of features per second that one core reads and checks, at full size."""
    config = _published()
    model, frames = config.model, config.sampling.max_frames
    clip = model.vision.clip_frames
    tokens, width = clip * model.projector.tokens_per_frame, model.vision.width
    key = StoreKey.make(
        video_hash="0" * 64,
        frame_indices=range(frames),
        image_size=model.vision.image_size,
        preprocessing="bench",
        encoder_hash="0" * 64,
        clip_frames=clip,
        tokens_per_clip=tokens,
        width=width,
        dtype="bfloat16",
    )
    starts = range(0, frames, clip)
    features = np.random.default_rng(0).normal(size=(tokens, width)).astype(jnp.bfloat16)
    store = TokenStore(folder / "full")
    with store.video(key) as video:
        video.write({start: features for start in video.missing(starts)})

    def read() -> None:
        for _ in range(times):
            clips = store.video(key).read(starts)
            np.concatenate([clips[start] for start in starts])

    return times * len(starts) * features.nbytes / _processor_seconds(read)


def host_cores(frames_per_second: float, bytes_per_second: float) -> dict[str, float]:
    """Returns the cores that keep a v5p-64 busy with the longest examples of the published recipe.

    Args:
        frames_per_second: frames that one core decodes.
        bytes_per_second: bytes of features that one core reads.
    """
    config = _published()
    stage, frames = config.stages[0], config.sampling.max_frames
    model = config.stage_model(stage)
    speed = V5P_64_CHIPS * PEAKS["TPU v5p"].tflops * 1e12 * ASSUMED_MFU
    from_files, from_store = (
        speed / training_flops(model, stage, frames=frames, text=TEXT_TOKENS, encoded=encoded).model
        for encoded in (False, True)
    )
    frame_bytes = model.projector.tokens_per_frame * model.vision.width * 2  # bfloat16
    return {
        "examples_per_second_from_files": from_files,
        "cores_from_files": from_files * frames / frames_per_second,
        "examples_per_second_from_store": from_store,
        "cores_from_store": from_store * frames * frame_bytes / bytes_per_second,
    }


def _published() -> ExperimentConfig:
    return from_dict(ExperimentConfig, xcomp_2b.get_config().to_dict())


def _moving_noise(frames: int) -> np.ndarray:
    """Returns [F, 720, 1280, 3]; noise that moves gives the codec motion to predict."""
    coarse = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
    still = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    return np.stack([np.roll(still, (frame, 3 * frame), axis=(0, 1)) for frame in range(frames)])


def _processor_seconds(work: Callable[[], object]) -> float:
    def used() -> float:
        return sum(
            usage.ru_utime + usage.ru_stime
            for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )

    before = used()
    work()
    return used() - before
