"""Runs the frozen encoder over the images and videos of a mixture, each once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from flax import traverse_util
from tqdm import tqdm

from xcomp_jax.checkpoint import CheckpointReader
from xcomp_jax.config import ConfigError, DType, ModelConfig, SamplingConfig
from xcomp_jax.data.mixture.features import FeatureStore, create_features, encoder_hash_of
from xcomp_jax.data.mixture.media import Media, image_path, read_pixels
from xcomp_jax.data.mixture.samples import Sample
from xcomp_jax.data.mixture.scan import Facts, Table
from xcomp_jax.data.ordered_map import ordered_map
from xcomp_jax.engine.clips import ArrayFrames, FileFrames, FrameSource, VideoClips
from xcomp_jax.engine.feature_encoder import FeatureEncoder
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.sampling import FramePlan

Problem = tuple[Media, str]


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
    vision = _read_vision(reader, dtype)
    store = create_features(root, model, encoder_hash_of(vision, model), dtype)
    return store, FeatureEncoder(model, vision), model


def check_features(root: Path, checkpoint: Path, model: ModelConfig) -> None:
    """Raises ConfigError unless the encoder of `checkpoint` made the features below `root`.

    Args:
        model: of the run that is to learn from them.
    """
    store = FeatureStore(root, model)
    mine = encoder_hash_of(_read_vision(CheckpointReader(checkpoint), store.dtype), model)
    if mine != store.encoder_hash:
        raise ConfigError(
            f"{root} holds features of another encoder than the one in {checkpoint}: the hash of "
            f"its parameters is {store.encoder_hash[:12]}, of the checkpoint's {mine[:12]}. Fill "
            f"another store with `xcomp encode --mixture ... --checkpoint {checkpoint}`, or begin "
            "from the checkpoint that this one was filled with"
        )


def _read_vision(reader: CheckpointReader, dtype: DType) -> Any:
    return traverse_util.unflatten_dict(
        {
            path: reader.part(path, tuple(slice(n) for n in shape), dtype)
            for path, shape in reader.shapes.items()
            if path.startswith("vision/")
        },
        sep="/",
    )["vision"]


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
        with store.shelf(one, path, plan) as clip_cache:
            clip_cache.verify()
            clip = clip_cache.key.clip_frames
            clips = VideoClips(
                encoder.for_file(number, clip_frames=clip),
                source,
                clip_cache,
                num_frames=plan.num_frames,
                clip_frames=clip,
            )
            clips.prepare(range(0, plan.num_frames, clip))
            store.enter(one, plan, facts.bytes, clip_cache, process_index)

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
