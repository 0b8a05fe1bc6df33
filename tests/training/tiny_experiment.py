"""Defines a complete experiment of a few seconds, for tests of interruption."""

import dataclasses

from ml_collections import ConfigDict

from tests.tiny import TINY
from xcomp_jax.config import (
    CompressionConfig,
    DataConfig,
    ExperimentConfig,
    SamplingConfig,
    StageConfig,
    to_dict,
)

# Few layers and few layer groups, because every process of a test traces and loads the programs.
MODEL = dataclasses.replace(
    TINY,
    vision=dataclasses.replace(TINY.vision, depth=2),
    llm=dataclasses.replace(TINY.llm, num_hidden_layers=3),
)

BASE = StageConfig(
    name="base",
    num_steps=6,
    batch_size=4,
    learning_rate=1e-3,
    compression=CompressionConfig(schedule="none"),
    trainable=("vision", "projector", "llm"),
)

SCT = dataclasses.replace(
    BASE,
    name="sct",
    num_steps=4,
    compression=CompressionConfig(max_distinct_lengths=2),
    trainable=("projector", "llm"),
)

EXPERIMENT = ExperimentConfig(
    name="tiny",
    model=MODEL,
    data=DataConfig(
        source="generated",
        num_train_videos=16,
        num_eval_videos=16,
        question_kinds=("color", "direction"),
    ),
    sampling=SamplingConfig(fps=4, min_frames=8, max_frames=8),
    stages=(BASE, SCT),
    save_every_steps=2,
    eval_batch_size=32,
)


def get_config() -> ConfigDict:
    """Returns two stages of a few steps on 16 videos."""
    return ConfigDict(to_dict(EXPERIMENT))
