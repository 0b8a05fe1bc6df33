"""Runs the frozen encoder over the images and videos of a mixture, each once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array
from tqdm import tqdm

from xcomp_jax.checkpoint import CheckpointReader
from xcomp_jax.config import DType, ModelConfig, SamplingConfig
from xcomp_jax.data.mixture.encoder_hash import encoder_hash_of, read_vision
from xcomp_jax.data.mixture.features import FeatureStore, create_features
from xcomp_jax.data.mixture.media import Media, image_path, read_pixels
from xcomp_jax.data.mixture.samples import Sample
from xcomp_jax.data.mixture.scan_table import Facts, Table
from xcomp_jax.data.ordered_map import ordered_map
from xcomp_jax.engine.clips import ArrayFrames, FileFrames, FrameSource, VideoClips
from xcomp_jax.engine.programs import CLIPS_PER_CALL
from xcomp_jax.inference.answer import Stopwatch
from xcomp_jax.models.xcomp import XComp, run
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.normalize import normalize
from xcomp_jax.video.sampling import FramePlan

Problem = tuple[Media, str]


@functools.partial(jax.jit, static_argnames="model")
def merged_features(model: XComp, vision: Any, clips: Array) -> Array:
    """uint8 clips [C, T, S, S, 3] -> [C, T * tokens_per_frame, D_vision], merged, not projected."""
    return run(model, {"vision": vision}, "merged_features", normalize(clips))


class FeatureEncoder:
    """The encoder on every device of this machine; calls from many threads share them evenly."""

    def __init__(self, config: ModelConfig, vision: Any) -> None:
        self._model = XComp(config)
        self._vision = [jax.device_put(vision, device) for device in jax.local_devices()]

    def on_device(self, number: int) -> Callable[[np.ndarray], np.ndarray]:
        """`encode` of one device, counted round."""
        return functools.partial(self.encode, self._vision[number % len(self._vision)])

    def encode(self, vision: Any, clips: np.ndarray) -> np.ndarray:
        """uint8 [C, T, S, S, 3], at most CLIPS_PER_CALL -> [C, T * tokens_per_frame, D_vision].

        Filled up with black clips, so that any number of clips runs the same program.
        """
        room = np.zeros((clips_per_call(clips.shape[1]), *clips.shape[1:]), np.uint8)
        room[: len(clips)] = clips
        return np.asarray(merged_features(self._model, vision, room))[: len(clips)]


def open_encoder(
    checkpoint: Path, root: Path, *, dtype: DType | None = None
) -> tuple[FeatureStore, FeatureEncoder, ModelConfig]:
    """The encoder of a checkpoint, the store at `root` for what it makes, and its model.

    Reads no other part of the checkpoint.

    Args:
        dtype: of arithmetic and features; default: float32 on a CPU, where bfloat16 is many times
            slower, and the checkpoint's own elsewhere.

    Raises:
        CheckpointError: the folder is no checkpoint.
        ConfigError: the store holds what another encoder made.
    """
    reader = CheckpointReader(checkpoint)
    if dtype is None:
        dtype = "float32" if jax.default_backend() == "cpu" else reader.model.dtype
    model = dataclasses.replace(reader.model, dtype=dtype)
    vision = read_vision(reader, dtype)
    store = create_features(root, model, encoder_hash_of(vision, model), dtype)
    return store, FeatureEncoder(model, vision), model


def clips_per_call(clip_frames: int) -> int:
    """Images come one at a time, so that nothing is filled up."""
    return 1 if clip_frames == 1 else CLIPS_PER_CALL


def encode_media(
    samples: Sequence[Sample],
    table: Table,
    store: FeatureStore,
    encoder: FeatureEncoder,
    *,
    root: Path,
    sampling: SamplingConfig,
    config: ModelConfig,
    process_index: int = 0,
    process_count: int = 1,
    workers: int,
    progress: bool = True,
) -> tuple[int, list[Problem]]:
    """Fills `store` with every distinct image and video of `samples` that falls to this process.

    Started again it looks only at what the store's index does not have. What a killed process had
    encoded of a video is used.

    Returns:
        how many were encoded now, and those that could not be, with the reason.
    """
    clip_frames = config.vision.clip_frames
    media = list(dict.fromkeys(sample.media for sample in samples))[process_index::process_count]

    def encode(job: tuple[int, Media]) -> bool | Problem:
        number, one = job
        facts = table.get((one.path, one.kind))
        if facts is None:
            return one, "is not in the table of the scan; scan the mixture again"
        try:
            plan = facts.plan(one, root, sampling=sampling, clip_frames=clip_frames)
            if store.complete(one, plan, facts.bytes):
                return False
            _encode_one(one, plan, facts, number)
        except VideoError as error:
            return one, str(error)
        return True

    def _encode_one(one: Media, plan: FramePlan, facts: Facts, number: int) -> None:
        path = root / one.path
        source: FrameSource
        if one.kind == "image":
            path = image_path(path)
            source = ArrayFrames(read_pixels(one, root, plan, config.vision.image_size))
        else:
            source = FileFrames(path, plan.indices, config.vision.image_size)
        with store.clip_cache(one, path, plan) as clip_cache:
            clip_cache.verify()
            clip = clip_cache.key.clip_frames
            clips = VideoClips(
                encoder.on_device(number),
                source,
                clip_cache,
                num_frames=plan.num_frames,
                clip_frames=clip,
                clips_per_call=clips_per_call(clip),
            )
            clips.prepare(range(0, plan.num_frames, clip), Stopwatch())
            store.register(one, plan, facts.bytes, clip_cache, process_index)

    made, problems = 0, []
    done = tqdm(
        ordered_map(encode, enumerate(media), workers=workers),
        desc="encoding",
        total=len(media),
        unit="file",
        disable=not progress,
    )
    for outcome in done:
        if isinstance(outcome, tuple):
            problems.append(outcome)
        else:
            made += outcome
    return made, problems
