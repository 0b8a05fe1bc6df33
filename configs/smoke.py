"""Smoke test of the whole system, minutes on two CPU cores: data, base, tuning, report.

    xcomp tune --config configs/smoke.py --workdir runs/smoke

Copy this file to start an experiment.
"""

from ml_collections import ConfigDict

from xcomp_jax.config import (
    CompressionConfig,
    DataConfig,
    ExperimentConfig,
    StageConfig,
    to_dict,
)
from xcomp_jax.variants import SMOKE, SMOKE_SAMPLING

BATCH = 16


def get_config() -> ConfigDict:
    """Returns two stages: a tiny base, then supervised compression tuning with LP-Comp."""
    return ConfigDict(
        to_dict(
            ExperimentConfig(
                name="smoke",
                model=SMOKE,
                data=DataConfig(
                    source="generated",
                    num_train_videos=320,
                    num_eval_videos=96,
                    question_kinds=("color", "flash_color", "flash_moment"),
                    prompt_as_asked=True,
                ),
                sampling=SMOKE_SAMPLING,
                stages=(
                    StageConfig(
                        name="base",
                        num_steps=600,
                        batch_size=BATCH,
                        learning_rate=2e-3,
                        warmup_ratio=0.05,
                        beta2=0.99,
                        compression=CompressionConfig(schedule="none"),
                        trainable=("vision", "projector", "llm"),
                        # Faster on a CPU: allocating pages costs more than recomputing.
                        remat=True,
                    ),
                    StageConfig(
                        name="sct",
                        num_steps=200,
                        batch_size=BATCH,
                        learning_rate=1e-3,
                        warmup_ratio=0.05,
                        beta2=0.99,
                        compression=CompressionConfig(schedule="cosine", keep="suffix"),
                        trainable=("projector", "llm"),
                        remat=True,
                    ),
                ),
                save_every_steps=100,
            )
        )
    )
