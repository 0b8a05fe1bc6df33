"""A whole experiment in seconds, for tests of interruption; learns next to nothing."""

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

BASE = StageConfig(
    name="base",
    num_steps=12,
    batch_size=4,
    learning_rate=1e-3,
    compression=CompressionConfig(schedule="none"),
    trainable=("vision", "projector", "llm"),
)


def get_config() -> ConfigDict:
    """Two stages of a few steps on a dozen videos."""
    sct = dataclasses.replace(
        BASE,
        name="sct",
        num_steps=8,
        # Two distinct lengths: every process of a test traces and loads what is compiled.
        compression=CompressionConfig(max_distinct_lengths=2),
        trainable=("projector", "llm"),
    )
    return ConfigDict(
        to_dict(
            ExperimentConfig(
                name="tiny",
                model=TINY,
                data=DataConfig(source="generated", num_train_videos=16, num_eval_videos=16),
                sampling=SamplingConfig(fps=4, min_frames=8, max_frames=8),
                stages=(BASE, sct),
                save_every_steps=4,
                eval_batch_size=16,
            )
        )
    )
