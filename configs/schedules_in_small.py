"""The recipe of `python -m launch.schedules_in_small`: a base and a short tuning, to be compared.

The compression of its second stage is replaced by each of those compared.
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

# A toy reads what it needs in its first layers. Over 8 of them compression alone cost its answers
# next to nothing, whatever the schedule; over 5 the schedules differ where it still reads.
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
    """One seed of the comparison."""
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
