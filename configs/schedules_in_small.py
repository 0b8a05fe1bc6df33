"""Recipe of the study `xcomp_jax.launch.studies.schedules`: a base and a short tuning.

The study replaces the compression of the second stage by that of each condition.
"""

import dataclasses

from ml_collections import ConfigDict

from xcomp_jax.config import (
    CompressionConfig,
    DataConfig,
    ExperimentConfig,
    StageConfig,
    to_dict,
)
from xcomp_jax.variants import SMOKE, SMOKE_SAMPLING

# A tiny model reads the video in its first layers: with 8 layers no schedule cost it accuracy, with
# 5 the schedules differ in layers that still read.
MODEL = dataclasses.replace(SMOKE, llm=dataclasses.replace(SMOKE.llm, num_hidden_layers=5))

BASE = StageConfig(
    name="base",
    num_steps=900,
    batch_size=8,
    learning_rate=2e-3,
    warmup_ratio=0.05,
    beta2=0.99,
    compression=CompressionConfig(schedule="none"),
    trainable=("vision", "projector", "llm"),
)

TUNING = dataclasses.replace(
    BASE,
    name="tuning",
    num_steps=200,
    learning_rate=1e-3,
    compression=CompressionConfig(schedule="cosine", keep="suffix"),
    trainable=("projector", "llm"),
)


def get_config() -> ConfigDict:
    """Returns the experiment of one seed."""
    return ConfigDict(
        to_dict(
            ExperimentConfig(
                name="schedules_in_small",
                model=MODEL,
                data=DataConfig(
                    source="generated",
                    num_train_videos=320,
                    num_eval_videos=192,
                    question_kinds=("color", "flash_color", "flash_moment"),
                    prompt_as_asked=True,
                ),
                sampling=SMOKE_SAMPLING,
                stages=(BASE, TUNING),
                save_every_steps=100,
                eval_batch_size=48,
            )
        )
    )
