"""Encodes the images and videos of a mixture with the frozen encoder, each once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax

from xcomp_jax.checkpoint import CheckpointReader
from xcomp_jax.config import DType, ModelConfig, SamplingConfig
from xcomp_jax.data.mixture.encoder_hash import encoder_hash_of, read_vision
from xcomp_jax.data.mixture.features import FeatureStore, create_features
from xcomp_jax.data.mixture.media import Media, image_path, read_pixels
from xcomp_jax.data.mixture.samples import Sample
from xcomp_jax.data.mixture.scan_table import Facts, Table
from xcomp_jax.data.ordered_map import ordered_map
from xcomp_jax.engine.clips import ArrayFrames, FileFrames, FrameSource, VideoClips
from xcomp_jax.engine.feature_encoder import FeatureEncoder
from xcomp_jax.terminal.progress import ProgressBar
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.sampling import FramePlan

Problem = tuple[Media, str]


def open_encoder(
    checkpoint: Path, root: Path, *, dtype: DType | None = None
) -> tuple[FeatureStore, FeatureEncoder, ModelConfig]:
    """Opens a checkpoint's encoder and the feature store at `root` for its output.

    No other part of the checkpoint is read.

    Args:
        dtype: dtype of arithmetic and features; default: float32 on a CPU, where bfloat16 is many
            times slower, elsewhere the checkpoint's.

    Raises:
        CheckpointError: the folder is not a checkpoint.
        ConfigError: the store holds features of another encoder.
    """
    reader = CheckpointReader(checkpoint)
    if dtype is None:
        dtype = "float32" if jax.default_backend() == "cpu" else reader.model.dtype
    model = dataclasses.replace(reader.model, dtype=dtype)
    vision = read_vision(reader, dtype)
    store = create_features(root, model, encoder_hash_of(vision, model), dtype)
    return store, FeatureEncoder(model, vision), model


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
    """Encodes this process's share of the distinct images and videos of `samples` into `store`.

    A second run encodes only files that the store's index lacks, and reuses the clips that a killed
    process stored.

    Args:
        workers: number of files decoded in parallel.

    Returns:
        The number of encoded files, and the failed files with reasons.
    """
    media = list(dict.fromkeys(sample.media for sample in samples))[process_index::process_count]
    files = _FileEncoder(table, store, encoder, root, sampling, config, process_index)
    num_encoded, problems = 0, []
    outcomes = ProgressBar(
        ordered_map(files.encode, enumerate(media), workers=workers),
        desc="encoding",
        total=len(media),
        unit="file",
        disable=not progress,
    )
    for outcome in outcomes:
        if isinstance(outcome, tuple):
            problems.append(outcome)
        else:
            num_encoded += outcome
    return num_encoded, problems


@dataclasses.dataclass(frozen=True)
class _FileEncoder:
    """Encodes single files of a mixture; called from many threads."""

    table: Table
    store: FeatureStore
    encoder: FeatureEncoder
    root: Path
    sampling: SamplingConfig
    config: ModelConfig
    process_index: int

    def encode(self, job: tuple[int, Media]) -> bool | Problem:
        """Encodes the file unless it is stored; returns whether it did, or what failed."""
        number, file = job
        facts = self.table.get((file.path, file.kind))
        if facts is None:
            return file, "is not in the scan's table; scan the mixture again"
        clip_frames = self.config.vision.clip_frames
        try:
            plan = facts.plan(file, self.root, sampling=self.sampling, clip_frames=clip_frames)
            if self.store.complete(file, plan, facts.bytes):
                return False
            self._encode(number, file, plan, facts)
        except VideoError as error:
            return file, str(error)
        return True

    def _encode(self, number: int, file: Media, plan: FramePlan, facts: Facts) -> None:
        path, source = _frame_source(
            file, self.root, plan, self.config.vision.image_size, self.sampling.max_damaged
        )
        with self.store.clip_cache(file, path, plan) as clip_cache:
            clip_cache.verify()
            length = clip_cache.key.clip_frames
            clips = VideoClips(
                self.encoder.for_file(number, clip_frames=length),
                source,
                clip_cache,
                num_frames=plan.num_frames,
                clip_frames=length,
            )
            clips.prepare(range(0, plan.num_frames, length))
            self.store.register(file, plan, facts.bytes, clip_cache, self.process_index)


def _frame_source(
    file: Media, root: Path, plan: FramePlan, image_size: int, max_damaged: float
) -> tuple[Path, FrameSource]:
    path = root / file.path
    if file.kind == "image":
        return image_path(path), ArrayFrames(read_pixels(file, root, plan, image_size))
    # One thread per file, because `encode_media` reads a file per core.
    return path, FileFrames(path, plan.indices, image_size, max_damaged=max_damaged, threads=1)
